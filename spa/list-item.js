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

/** @param {number} seconds since 1970 */
export const time = (seconds) => new Date(seconds * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
