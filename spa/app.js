/**
 * The page: three views over one session. What is shown always follows from the tokens in the storage.
 * @module
 */

import { Refused, Session, SignedOut, Unreachable } from "./session.js";

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} kind
 * @returns {T}
 */
function element(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new TypeError(`#${id} is missing from index.html`);
  return found;
}

const view = {
  flash: element("flash", HTMLElement),
  waiting: element("waiting", HTMLElement),
  waitingTitle: element("waiting-title", HTMLElement),
  waitingText: element("waiting-text", HTMLElement),
  retry: element("retry", HTMLButtonElement),
  login: element("login", HTMLElement),
  form: element("login-form", HTMLFormElement),
  username: element("username", HTMLInputElement),
  password: element("password", HTMLInputElement),
  loginButton: element("login-button", HTMLButtonElement),
  loginError: element("login-error", HTMLElement),
  success: element("success", HTMLElement),
  welcome: element("welcome", HTMLElement),
  message: element("message", HTMLElement),
  successError: element("success-error", HTMLElement),
  tokenType: element("token-type", HTMLElement),
  subject: element("subject", HTMLElement),
  issuedAt: element("issued-at", HTMLTimeElement),
  expiresAt: element("expires-at", HTMLTimeElement),
  remaining: element("remaining", HTMLElement),
  gauge: element("gauge", HTMLProgressElement),
  call: element("call", HTMLButtonElement),
  logout: element("logout", HTMLButtonElement),
};

const session = new Session();

/** @param {"waiting" | "login" | "success"} name */
function show(name) {
  for (const other of /** @type {const} */ (["waiting", "login", "success"])) view[other].hidden = other !== name;
}

/**
 * @param {HTMLElement} place
 * @param {string} text empty hides it
 */
function say(place, text) {
  place.textContent = text;
  place.hidden = text === "";
}

/**
 * What a person is told of a failure.
 * @param {unknown} error
 * @returns {string}
 */
function explain(error) {
  if (error instanceof Unreachable) return error.refusal ? explain(error.refusal) : "Cannot reach server.";
  if (!(error instanceof Refused)) return "An unexpected error occurred.";
  if (error.status === 401) return "Invalid username or password.";
  if (error.status === 403 && error.code === "account_locked") {
    return `Account temporarily locked. Please try again later.${whenAgain(error.retryAfter)}`;
  }
  return error.message;
}

/** @param {number | null} seconds */
function whenAgain(seconds) {
  if (seconds === null) return "";
  const at = new Date(Date.now() + seconds * 1000);
  const time = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return ` You can try again in ${duration(seconds)}, at ${time}.`;
}

/** @param {number} seconds */
function duration(seconds) {
  const [count, unit] = seconds < 90 ? [seconds, "second"] : [Math.ceil(seconds / 60), "minute"];
  return `${count} ${unit}${count === 1 ? "" : "s"}`;
}

/* The login view. */

/** @param {string} [notice] */
function showLogin(notice = "") {
  say(view.flash, notice);
  say(view.loginError, "");
  view.form.reset();
  markInvalid(false);
  show("login");
  view.username.focus();
}

/** @param {boolean} invalid */
function markInvalid(invalid) {
  for (const field of [view.username, view.password]) field.setAttribute("aria-invalid", String(invalid));
}

/** @param {boolean} busy */
function setBusy(busy) {
  view.loginButton.disabled = busy;
  view.loginButton.textContent = busy ? "Logging in …" : "Log in";
  view.form.setAttribute("aria-busy", String(busy));
}

view.form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (view.loginButton.disabled) return;
  say(view.flash, "");
  const [username, password] = [view.username.value, view.password.value];
  if (username.trim() === "" || password === "") {
    markInvalid(true);
    say(view.loginError, "Both username and password are required.");
    (username.trim() === "" ? view.username : view.password).focus();
    return;
  }
  say(view.loginError, "");
  markInvalid(false);
  setBusy(true);
  try {
    await session.login(username, password);
    await start();
  } catch (error) {
    view.password.value = "";
    markInvalid(error instanceof Refused && error.status === 401);
    say(view.loginError, explain(error));
    view.password.focus();
  } finally {
    setBusy(false);
  }
});

/* The success view. */

/** Calls the upstream through the gateway and shows what both say. */
async function enter() {
  const response = await session.fetch("/protected");
  if (!response.ok) throw await Refused.from(response);
  /** @type {{message?: unknown}} */
  const body = await response.json();
  view.form.reset();
  say(view.flash, "");
  say(view.successError, "");
  view.message.textContent = typeof body.message === "string" ? body.message : "";
  showToken();
  const arriving = view.success.hidden;
  show("success");
  if (arriving) view.welcome.focus();
}

/** Shows the token that is in the storage now. */
function showToken() {
  const claims = session.claims;
  if (claims === null) return;
  view.welcome.textContent = `Welcome, ${claims.username}`;
  view.tokenType.textContent = claims.type;
  view.subject.textContent = claims.sub;
  showTime(view.issuedAt, claims.iat);
  showTime(view.expiresAt, claims.exp);
  showRemaining();
}

/**
 * @param {HTMLTimeElement} place
 * @param {number} seconds since 1970
 */
function showTime(place, seconds) {
  const date = new Date(seconds * 1000);
  place.dateTime = date.toISOString();
  place.textContent = date.toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });
}

function showRemaining() {
  const claims = session.claims;
  if (claims === null) return;
  const seconds = Math.max(0, Math.ceil(claims.exp - session.now() / 1000));
  view.remaining.textContent = seconds === 0 ? "expired" : `${seconds} s`;
  view.remaining.classList.toggle("expired", seconds === 0);
  view.gauge.value = seconds / Math.max(1, claims.exp - claims.iat);
}

setInterval(() => {
  if (!view.success.hidden) showRemaining();
}, 250);

view.call.addEventListener("click", async () => {
  if (view.call.disabled) return;
  view.call.disabled = true;
  try {
    await enter();
  } catch (error) {
    fail(error);
  } finally {
    view.call.disabled = false;
  }
});

view.logout.addEventListener("click", async () => {
  view.logout.disabled = true;
  try {
    const ended = session.logout();
    showLogin();
    await ended;
    say(view.flash, "You are logged out.");
  } catch {
    say(view.flash, "You are logged out here, but the server could not be told: the session ends there by itself.");
  } finally {
    view.logout.disabled = false;
  }
});

/**
 * Whether a failed call means that nobody is logged in any more. Fresh tokens that are refused all the same are of no
 * use to anybody.
 * @param {unknown} error
 */
function isOver(error) {
  if (error instanceof Refused && error.status === 401) session.clear();
  return error instanceof SignedOut || !session.hasTokens;
}

/**
 * A call failed while somebody was logged in.
 * @param {unknown} error
 */
function fail(error) {
  if (isOver(error)) {
    showLogin("Your session has ended. Please log in again.");
  } else {
    say(view.successError, explain(error));
  }
}

// Another tab has logged in or out, or renewed the token.
session.addEventListener("change", () => {
  if (view.success.hidden) return;
  if (session.hasTokens) showToken();
  else showLogin("Your session has ended. Please log in again.");
});

/* The start: whoever still holds a good token goes straight in. */

async function start() {
  if (!session.hasTokens) return showLogin();
  view.waitingTitle.textContent = "One moment …";
  view.waitingText.textContent = "Looking for your session.";
  view.retry.hidden = true;
  show("waiting");
  try {
    await enter();
  } catch (error) {
    if (isOver(error)) return showLogin();
    view.waitingTitle.textContent = "Not available";
    view.waitingText.textContent = `${explain(error)} You are still logged in.`;
    view.retry.hidden = false;
    view.retry.focus();
  }
}

view.retry.addEventListener("click", start);
start();
