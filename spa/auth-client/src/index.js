/**
 * The token client of auth-gateway.
 * @module
 */

export { AuthClient } from "./auth-client.js";
export { readClaims } from "./claims.js";
export { ApiError, AuthenticationRequired, NetworkError, SecondFactorRequired } from "./errors.js";
export { AuthEvent } from "./events.js";
export { memoryStorage } from "./storage.js";

/** @typedef {import("./auth-client.js").AuthClientOptions} AuthClientOptions */
/** @typedef {import("./auth-client.js").PersonalToken} PersonalToken */
/** @typedef {import("./auth-client.js").PersonalTokenOptions} PersonalTokenOptions */
/** @typedef {import("./auth-client.js").SessionInfo} SessionInfo */
/** @typedef {import("./claims.js").Claims} Claims */
/** @typedef {import("./dpop.js").DpopMode} DpopMode */
/** @typedef {import("./second-factor.js").Enrolment} Enrolment */
/** @typedef {import("./second-factor.js").FactorStatus} FactorStatus */
/** @typedef {import("./second-factor.js").SecondFactor} SecondFactor */
/** @typedef {import("./errors.js").SignOutReason} SignOutReason */
/** @typedef {import("./event-stream.js").EventStreamOptions} EventStreamOptions */
/** @typedef {import("./event-stream.js").ServerSentEvent} ServerSentEvent */
/** @typedef {import("./storage.js").StorageAdapter} StorageAdapter */
