/**
 * The page: five views over one token client. What is shown always follows from the tokens in the storage.
 * @module
 */

import { ApiError, AuthClient, NetworkError, SecondFactorRequired } from "./auth-client/src/index.js";
import { ChangeView } from "./change-view.js";
import { CodeView } from "./code-view.js";
import { element } from "./element.js";
import { Latest } from "./latest.js";
import { PasswordView } from "./password-view.js";
import { ProveView } from "./prove-view.js";
import { SecondFactorView } from "./second-factor-view.js";
import { SessionsView } from "./sessions-view.js";
import { TokensView } from "./tokens-view.js";

const SESSION_ENDED = "Your session has ended. Please log in again.";
/** The message for a visitor who was logged out elsewhere. @type {Record<string, string>} */
const SIGNED_OUT = {
  logout: "You were logged out in another tab.",
  reused: "Your session has ended. An old token of it was used again, so it was closed for safety. Please log in again.",
  revoked: "Your session has ended. It was closed elsewhere. Please log in again.",
};

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
  showPassword: element("show-password", HTMLButtonElement),
  loginFailure: element("login-failure", HTMLElement),
  loginError: element("login-error", HTMLElement),
  loginRetry: element("login-retry", HTMLButtonElement),
  codeStep: element("code-step", HTMLElement),
  codeTitle: element("code-title", HTMLElement),
  changeStep: element("change-step", HTMLElement),
  changeTitle: element("change-title", HTMLElement),
  success: element("success", HTMLElement),
  welcome: element("welcome", HTMLElement),
  message: element("message", HTMLElement),
  answered: element("answered", HTMLElement),
  storageNotice: element("storage-notice", HTMLElement),
  successFailure: element("success-failure", HTMLElement),
  successError: element("success-error", HTMLElement),
  successRetry: element("success-retry", HTMLButtonElement),
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
const client = new AuthClient({
  baseUrl: gateway["url"] ?? "",
  endpoints: gateway["endpoints"] ?? "",
  // An unused token may expire, so that a forgotten tab does not keep a session alive.
  autoRefresh: "active",
});
const sessions = new SessionsView({ client, explain, onEnded: (notice) => showLogin(notice) });

const tokens = new TokensView({ client, explain, onEnded: () => showLogin(SESSION_ENDED) });

const password = new PasswordView({
  client,
  explain: explainProof,
  onEnded: () => showLogin(SESSION_ENDED),
  onChanged: () => void sessions.load(),
});

const factor = new SecondFactorView({
  client,
  explain: explainProof,
  onEnded: () => showLogin(SESSION_ENDED),
  onChanged: () => void sessions.load(),
});

const prove = new ProveView({
  client,
  explain: explainProof,
  onProved: () => void callAgain(),
  onEnded: () => showLogin(SESSION_ENDED),
});

const codeStep = new CodeView({ client, explain: explainLogin, onDone: start, onEnded: (notice) => showLogin(notice) });

const changeStep = new ChangeView({
  client,
  explain: explainProof,
  onChanged: logInWithNewPassword,
  onEnded: (notice) => showLogin(notice),
});

/** What the visitor does on the whole: calls, logins, logouts. */
const latest = new Latest();

/** What the gateway has for the visitor's account. @type {Promise<string[]>} */
let features = Promise.resolve([]);

/** @param {"waiting" | "login" | "codeStep" | "changeStep" | "success"} name */
function show(name) {
  const titles = {
    waiting: view.waitingTitle,
    login: null,
    codeStep: view.codeTitle,
    changeStep: view.changeTitle,
    success: view.welcome,
  };
  for (const other of /** @type {(keyof typeof titles)[]} */ (Object.keys(titles))) view[other].hidden = other !== name;
  if (name !== "codeStep") codeStep.end();
  if (name !== "changeStep") changeStep.end();
  const title = titles[name]?.textContent ?? "Log in";
  document.title = `${title} – auth-gateway`;
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
 * Says what went wrong at a login, and offers to try again where that is all it takes.
 * @param {string} text empty hides it
 * @param {boolean} [isOutage]
 */
function sayLoginError(text, isOutage = false) {
  view.loginError.textContent = text;
  view.loginFailure.hidden = text === "";
  view.loginRetry.hidden = !isOutage;
}

/**
 * Says what went wrong with a call. What the upstream said before is no longer true then.
 * @param {string} text empty hides it
 * @param {boolean} [isOutage]
 */
function saySuccessError(text, isOutage = false) {
  view.successError.textContent = text;
  view.successFailure.hidden = text === "";
  view.successRetry.hidden = !isOutage;
  if (text !== "") view.message.textContent = view.answered.textContent = "";
}

/**
 * The error message where the visitor, who is logged in, proves that by the current password.
 * @param {unknown} error
 */
function explainProof(error) {
  const isWrongPassword = error instanceof ApiError && error.code === "invalid_credentials";
  return isWrongPassword ? "The current password is wrong." : explain(error);
}

/**
 * The error message for a failure.
 * @param {unknown} error
 * @returns {string}
 */
function explain(error) {
  if (error instanceof NetworkError) return error.apiError ? explain(error.apiError) : "Cannot reach server.";
  if (error instanceof ApiError && error.code === "account_locked") return explainLock(error);
  return error instanceof ApiError ? error.message : "An unexpected error occurred.";
}

/**
 * The error message for a failed login.
 * @param {unknown} error
 * @returns {string}
 */
function explainLogin(error) {
  if (!(error instanceof ApiError)) return explain(error);
  if (error.code === "invalid_code" || error.code === "mfa_token_expired") return error.message;
  if (error.status === 401) return "Invalid username or password.";
  if (error.status === 403 && error.code === "") return explainLock(error);
  return explain(error);
}

/** @param {ApiError} error */
function explainLock(error) {
  return `Account temporarily locked. Please try again later.${whenAgain(error.retryAfter)}`;
}

/** @param {number | null} seconds */
function whenAgain(seconds) {
  if (seconds === null) return "";
  const at = new Date(Date.now() + seconds * 1000);
  const isToday = at.toDateString() === new Date().toDateString();
  const time = at.toLocaleString([], isToday ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" });
  return ` You can try again in ${duration(seconds)}, ${isToday ? "at" : "on"} ${time}.`;
}

/** A waiting time in one unit, rounded up so that a retry is not too early. @param {number} seconds */
function duration(seconds) {
  const [size, unit] = seconds < 90 ? [1, "second"] : seconds <= 90 * 60 ? [60, "minute"] : [3600, "hour"];
  const count = Math.ceil(seconds / size);
  return `${count} ${unit}${count === 1 ? "" : "s"}`;
}

/* The login view. */

/** @param {string} [notice] */
function showLogin(notice = "") {
  latest.begin();
  say(view.flash, notice);
  sayLoginError("");
  view.form.reset();
  setPasswordShown(false);
  markInvalid([]);
  sessions.hide();
  tokens.hide();
  password.hide();
  factor.hide();
  prove.hide();
  show("login");
  view.username.focus();
}

/** @param {HTMLInputElement[]} invalid these, and no others */
function markInvalid(invalid) {
  for (const field of [view.username, view.password]) {
    field.setAttribute("aria-invalid", String(invalid.includes(field)));
  }
}

/** @param {boolean} isShown */
function setPasswordShown(isShown) {
  view.password.type = isShown ? "text" : "password";
  view.showPassword.setAttribute("aria-pressed", String(isShown));
}

view.showPassword.addEventListener("click", () => setPasswordShown(view.password.type === "password"));

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
    sayLoginError("Both username and password are required.");
    missing[0].focus();
    return;
  }
  sayLoginError("");
  // A browser keeps the content of a text field.
  setPasswordShown(false);
  setBusy(true);
  try {
    await client.login(username, password);
    await start();
  } catch (error) {
    if (error instanceof SecondFactorRequired) return askForCode(error);
    if (error instanceof ApiError && error.code === "password_change_required") return askForChange(username, error);
    const isOutage = error instanceof NetworkError;
    if (!isOutage) view.password.value = "";
    if (error instanceof ApiError && error.status === 401) markInvalid([view.username, view.password]);
    sayLoginError(explainLogin(error), isOutage);
    if (isOutage) view.loginRetry.focus();
    else view.password.focus();
  } finally {
    setBusy(false);
  }
});

/** @param {SecondFactorRequired} step */
function askForCode(step) {
  view.form.reset();
  codeStep.begin(step);
  show("codeStep");
  codeStep.focus();
}

/** @param {string} username @param {ApiError} refusal */
function askForChange(username, refusal) {
  view.form.reset();
  changeStep.begin(username, refusal.factors.length > 0);
  show("changeStep");
  changeStep.focus();
}

/**
 * @param {string} username
 * @param {string} password
 * @param {AbortSignal} signal
 */
async function logInWithNewPassword(username, password, signal) {
  try {
    await client.login(username, password, { signal });
    await start();
  } catch (error) {
    if (signal.aborted) return;
    if (error instanceof SecondFactorRequired) return askForCode(error);
    // It is another one whatever keeps the visitor from logging in with it.
    showLogin("Your password is changed. Please log in with the new one.");
    sayLoginError(explainLogin(error), false);
  }
}

/* The success view. */

/**
 * Calls the upstream through the gateway and shows what both say.
 * @param {(why: string, isOutage: boolean) => void} showFailure for a failure that leaves the visitor logged in
 */
async function call(showFailure) {
  const isLatest = latest.begin();
  try {
    const response = await client.fetch("/protected");
    if (!response.ok) {
      // A fresh token that is refused all the same is of no use to anybody.
      await client.clearIfRejected(response);
      throw await ApiError.from(response);
    }
    /** @type {{message?: unknown}} */
    const body = await response.json();
    if (!isLatest()) return;
    if (client.hasTokens) welcome(typeof body.message === "string" ? body.message : "");
    else showLogin(SESSION_ENDED);
  } catch (error) {
    if (!isLatest()) return;
    if (!client.hasTokens) showLogin(SESSION_ENDED);
    else if (error instanceof ApiError && error.code === "insufficient_user_authentication") await stepUp(error);
    else showFailure(explain(error), error instanceof NetworkError || isOutage(error));
  }
}

/** @param {unknown} error whether it may be over when one tries again */
const isOutage = (error) => error instanceof ApiError && (error.status === 429 || error.status >= 500);

/** @param {string} message the upstream's */
function welcome(message) {
  view.form.reset();
  say(view.flash, "");
  saySuccessError("");
  prove.hide();
  setPasswordShown(false);
  showStorage();
  view.message.textContent = message;
  view.answered.textContent = `Answered at ${new Date().toLocaleTimeString()}.`;
  showToken();
  const arriving = view.success.hidden;
  show("success");
  if (arriving) {
    view.welcome.focus();
    // Nothing of somebody who was here before.
    for (const part of [factor, tokens, password]) part.hide();
    features = sessions.load();
    void showFeatures();
  }
}

/** Shows what the gateway has for the visitor's account. */
async function showFeatures() {
  const has = await features;
  if (has.includes("mfa")) void factor.load();
  if (has.includes("personal_tokens")) void tokens.load();
  if (has.includes("password_change")) password.show();
}

/**
 * Shows the visitor what the call asks for beside a valid token.
 * @param {ApiError} refusal
 */
async function stepUp(refusal) {
  welcome("");
  saySuccessError(refusal.message);
  // Whoever has no second factor sets one up below.
  await prove.show(refusal, (await features).includes("mfa"));
}

/** Shows the token that is in the storage now. */
function showToken() {
  const claims = client.claims;
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

function showStorage() {
  const isKept = client.storageFailure === null;
  say(view.storageNotice, isKept ? "" : "This browser cannot keep your session: it ends when you leave this page.");
}

/** A token that was used is renewed shortly before it expires; one that was not waits for the next call. */
function showRemaining() {
  const claims = client.claims;
  if (claims === null) return;
  const seconds = secondsUntil(claims.exp);
  const sessionEnds = client.refreshClaims?.exp;
  const isOver = sessionEnds !== undefined && secondsUntil(sessionEnds) === 0;
  view.remaining.textContent = seconds === 0 ? "expired" : countdown(seconds);
  view.remaining.classList.toggle("expired", seconds === 0);
  view.gauge.value = seconds / Math.max(1, claims.exp - claims.iat);
  if (seconds > 0) view.renewal.textContent = "It is renewed shortly before it expires, or with the next call; nothing is lost.";
  else if (isOver) view.renewal.textContent = "Your session is over, too: the next call asks you to log in.";
  else view.renewal.textContent = "Expired – will be renewed with the next call.";
}

/** @param {number} time in seconds since 1970, by the server's clock */
const secondsUntil = (time) => Math.max(0, Math.ceil(time - client.now() / 1000));

/** @param {number} seconds */
const countdown = (seconds) => (seconds < 100 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`);

setInterval(() => {
  if (!view.success.hidden) showRemaining();
}, 250);

async function callAgain() {
  // Not `disabled`, which would take the focus away from the keyboard's user.
  if (view.call.getAttribute("aria-disabled") === "true") return;
  view.call.setAttribute("aria-disabled", "true");
  await call(saySuccessError);
  view.call.removeAttribute("aria-disabled");
}

view.call.addEventListener("click", callAgain);
view.successRetry.addEventListener("click", async () => {
  await callAgain();
  // The button that had the focus is gone if it worked.
  if (view.successRetry.hidden || view.successFailure.hidden) view.call.focus();
});

async function logOut() {
  const ended = client.logout();
  showLogin();
  const isLatest = latest.current();
  const outcome = await ended.then(
    () => "You are logged out.",
    () => "You are logged out here, but the session could not be ended at the server: it ends there by itself.",
  );
  if (isLatest()) say(view.flash, outcome);
}

view.logout.addEventListener("click", logOut);
view.leave.addEventListener("click", logOut);

/* Start: visitors with a valid token skip the login. */

async function start() {
  if (!client.hasTokens) {
    // What is stored there but cannot be a token goes, too.
    await client.clear();
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
client.addEventListener("change", () => {
  if (view.loginButton.disabled || codeStep.isBusy || changeStep.isBusy) return;
  const isWorking = !view.waiting.hidden && view.outage.hidden;
  if (!client.hasTokens) {
    const isLoggingIn = [view.login, view.codeStep, view.changeStep].some((step) => !step.hidden);
    if (!isLoggingIn && !isWorking) showLogin(SESSION_ENDED);
    sessions.hide();
    tokens.hide();
    factor.hide();
  } else if (!view.success.hidden && client.claims?.sub === view.subject.textContent) {
    showToken();
  } else if (client.accessToken !== null && !isWorking) {
    start();
  }
});

client.addEventListener("signed-out", (event) => {
  const { reason, isOtherTab } = /** @type {import("./auth-client/src/index.js").AuthEvent} */ (event);
  // The view that caused the change shows its own message.
  const isOwn = reason === "logout" && !isOtherTab;
  if (!view.login.hidden && !isOwn) say(view.flash, SIGNED_OUT[reason ?? ""] ?? SESSION_ENDED);
});

client.addEventListener("storage-failed", showStorage);

// A page that "back" brings up again has missed what other tabs did.
addEventListener("pageshow", (event) => {
  if (event.persisted) start();
});

start();
