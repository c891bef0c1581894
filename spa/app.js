/**
 * The page: three views over one session. What is shown always follows from the tokens in the storage.
 * @module
 */

import { Refused, Session, Unreachable } from "./session.js";

const SESSION_ENDED = "Your session has ended. Please log in again.";

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
  outage: element("outage", HTMLElement),
  retry: element("retry", HTMLButtonElement),
  leave: element("leave", HTMLButtonElement),
  login: element("login", HTMLElement),
  form: element("login-form", HTMLFormElement),
  username: element("username", HTMLInputElement),
  password: element("password", HTMLInputElement),
  loginButton: element("login-button", HTMLButtonElement),
  loginError: element("login-error", HTMLElement),
  success: element("success", HTMLElement),
  welcome: element("welcome", HTMLElement),
  message: element("message", HTMLElement),
  answered: element("answered", HTMLElement),
  successError: element("success-error", HTMLElement),
  tokenType: element("token-type", HTMLElement),
  subject: element("subject", HTMLElement),
  issuedAt: element("issued-at", HTMLTimeElement),
  expiresAt: element("expires-at", HTMLTimeElement),
  remaining: element("remaining", HTMLElement),
  gauge: element("gauge", HTMLProgressElement),
  renewal: element("renewal", HTMLElement),
  call: element("call", HTMLButtonElement),
  logout: element("logout", HTMLButtonElement),
};

const gateway = element("gateway", HTMLMetaElement).dataset;
const session = new Session({ baseUrl: gateway["url"] ?? "", endpoints: gateway["endpoints"] ?? "" });

/** Counts what is asked for, so that a late answer is not shown to somebody who has since asked for something else. */
let turn = 0;

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
  return error instanceof Refused ? error.message : "An unexpected error occurred.";
}

/**
 * What a person is told of a failed login.
 * @param {unknown} error
 * @returns {string}
 */
function explainLogin(error) {
  if (!(error instanceof Refused)) return explain(error);
  if (error.status === 401) return "Invalid username or password.";
  if (error.status === 403 && ["account_locked", ""].includes(error.code)) {
    return `Account temporarily locked. Please try again later.${whenAgain(error.retryAfter)}`;
  }
  return explain(error);
}

/** @param {number | null} seconds */
function whenAgain(seconds) {
  if (seconds === null) return "";
  const at = new Date(Date.now() + seconds * 1000);
  const isToday = at.toDateString() === new Date().toDateString();
  const time = at.toLocaleString([], isToday ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" });
  return ` You can try again in ${duration(seconds)}, ${isToday ? "at" : "on"} ${time}.`;
}

/** A wait in one unit, rounded up so that nobody comes back too early. @param {number} seconds */
function duration(seconds) {
  const [size, unit] = seconds < 90 ? [1, "second"] : seconds <= 90 * 60 ? [60, "minute"] : [3600, "hour"];
  const count = Math.ceil(seconds / size);
  return `${count} ${unit}${count === 1 ? "" : "s"}`;
}

/* The login view. */

/** @param {string} [notice] */
function showLogin(notice = "") {
  turn += 1;
  say(view.flash, notice);
  say(view.loginError, "");
  view.form.reset();
  markInvalid([]);
  show("login");
  view.username.focus();
}

/** @param {HTMLInputElement[]} invalid these, and no others */
function markInvalid(invalid) {
  for (const field of [view.username, view.password]) {
    field.setAttribute("aria-invalid", String(invalid.includes(field)));
  }
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
  const missing = [...(username.trim() === "" ? [view.username] : []), ...(password === "" ? [view.password] : [])];
  markInvalid(missing);
  if (missing[0] !== undefined) {
    say(view.loginError, "Both username and password are required.");
    missing[0].focus();
    return;
  }
  say(view.loginError, "");
  setBusy(true);
  try {
    await session.login(username, password);
    await start();
  } catch (error) {
    view.password.value = "";
    if (error instanceof Refused && error.status === 401) markInvalid([view.username, view.password]);
    say(view.loginError, explainLogin(error));
    view.password.focus();
  } finally {
    setBusy(false);
  }
});

/* The success view. */

/**
 * Calls the upstream through the gateway and shows what both say.
 * @param {(why: string) => void} showFailure for a failure that leaves the visitor logged in
 */
async function call(showFailure) {
  turn += 1;
  const mine = turn;
  try {
    const response = await session.fetch("/protected");
    if (!response.ok) {
      // A fresh token that is refused all the same is of no use to anybody.
      await session.giveUp(response);
      throw await Refused.from(response);
    }
    /** @type {{message?: unknown}} */
    const body = await response.json();
    if (mine !== turn) return;
    if (session.hasTokens) welcome(typeof body.message === "string" ? body.message : "");
    else showLogin(SESSION_ENDED);
  } catch (error) {
    if (mine !== turn) return;
    if (session.hasTokens) showFailure(explain(error));
    else showLogin(SESSION_ENDED);
  }
}

/** @param {string} message the upstream's */
function welcome(message) {
  view.form.reset();
  say(view.flash, "");
  say(view.successError, "");
  view.message.textContent = message;
  view.answered.textContent = `Answered at ${new Date().toLocaleTimeString()}.`;
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

/** Renewing waits for a call, so that a forgotten tab does not keep a session alive. */
function showRemaining() {
  const claims = session.claims;
  if (claims === null) return;
  const seconds = secondsUntil(claims.exp);
  const sessionEnds = session.refreshClaims?.exp;
  const isOver = sessionEnds !== undefined && secondsUntil(sessionEnds) === 0;
  view.remaining.textContent = seconds === 0 ? "expired" : countdown(seconds);
  view.remaining.classList.toggle("expired", seconds === 0);
  view.gauge.value = seconds / Math.max(1, claims.exp - claims.iat);
  if (seconds > 0) view.renewal.textContent = "Once it has expired, the next call renews it; nothing is lost.";
  else if (isOver) view.renewal.textContent = "Your session is over, too: the next call asks you to log in.";
  else view.renewal.textContent = "Expired – will be renewed with the next call.";
}

/** @param {number} time in seconds since 1970, by the server's clock */
const secondsUntil = (time) => Math.max(0, Math.ceil(time - session.now() / 1000));

/** @param {number} seconds */
const countdown = (seconds) => (seconds < 100 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`);

setInterval(() => {
  if (!view.success.hidden) showRemaining();
}, 250);

view.call.addEventListener("click", async () => {
  // Not `disabled`, which would take the focus away from the keyboard's user.
  if (view.call.getAttribute("aria-disabled") === "true") return;
  view.call.setAttribute("aria-disabled", "true");
  await call((why) => say(view.successError, why));
  view.call.removeAttribute("aria-disabled");
});

async function logOut() {
  const ended = session.logout();
  showLogin();
  const mine = turn;
  const outcome = await ended.then(
    () => "You are logged out.",
    () => "You are logged out here, but the session could not be ended at the server: it ends there by itself.",
  );
  if (mine === turn) say(view.flash, outcome);
}

view.logout.addEventListener("click", logOut);
view.leave.addEventListener("click", logOut);

/* The start: whoever still holds a good token goes straight in. */

async function start() {
  if (!session.hasTokens) {
    // What is stored there but cannot be a token goes, too.
    session.clear();
    return showLogin();
  }
  showWaiting("One moment …", "Looking for your session.", false);
  await call((why) => {
    showWaiting("Not available", `${why} You are still logged in.`, true);
    view.retry.focus();
  });
}

/**
 * @param {string} title
 * @param {string} text
 * @param {boolean} isOutage whether it is for the visitor to go on
 */
function showWaiting(title, text, isOutage) {
  view.waitingTitle.textContent = title;
  view.waitingText.textContent = text;
  view.outage.hidden = !isOutage;
  show("waiting");
}

view.retry.addEventListener("click", start);

// Here, or in another tab, somebody has logged in or out, or the token was renewed.
session.addEventListener("change", () => {
  if (view.loginButton.disabled) return;
  const isWorking = !view.waiting.hidden && view.outage.hidden;
  if (!session.hasTokens) {
    if (view.login.hidden && !isWorking) showLogin(SESSION_ENDED);
  } else if (!view.success.hidden && session.claims?.sub === view.subject.textContent) {
    showToken();
  } else if (session.accessToken !== null && !isWorking) {
    start();
  }
});

// A page that "back" brings up again has missed what other tabs did.
addEventListener("pageshow", (event) => {
  if (event.persisted) start();
});

start();
