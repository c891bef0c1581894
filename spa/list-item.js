/**
 * What the items of the page's lists are made of.
 * @module
 */

/** @param {string} text @param {string} badge @param {string} [style] */
export function line(text, badge, style = "") {
  const place = document.createElement("p");
  place.className = style;
  place.textContent = text;
  if (badge !== "") {
    const mark = document.createElement("span");
    mark.className = "badge";
    mark.textContent = ` ${badge}`;
    place.append(mark);
  }
  return place;
}

/**
 * An item with these lines, and a button beside them.
 * @param {HTMLElement[]} lines
 * @param {HTMLButtonElement} [button]
 */
export function item(lines, button) {
  const place = document.createElement("li");
  const text = document.createElement("div");
  text.append(...lines);
  place.append(text);
  if (button !== undefined) place.append(button);
  return place;
}

/**
 * @param {string} text
 * @param {string} label with what it acts on, for screen readers
 * @param {(button: HTMLButtonElement) => void} onClick
 */
export function itemButton(text, label, onClick) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = text;
  button.setAttribute("aria-label", label);
  button.addEventListener("click", () => onClick(button));
  return button;
}

/** @param {number} seconds since 1970 */
export const time = (seconds) => new Date(seconds * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
