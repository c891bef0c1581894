/**
 * The three kinds of errors: a response of the gateway, no response (network), or no signed-in user.
 * @module
 */

/** @typedef {{code?: string, message?: string, detail?: string, request_id?: string, factors?: string[]}} Problem the members of problem+json that are used */

/** Why a session is over. @typedef {"logout" | "expired" | "reused" | "revoked" | "invalid"} SignOutReason */

/** The gateway, or what is behind it, answered with a status other than 2xx. */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {Problem} problem the body, as far as it was one
   * @param {number | null} retryAfter seconds
   * @param {string} [challenge]
   */
  constructor(status, problem, retryAfter, challenge = "") {
    super(problem.message || "An unexpected error occurred.");
    this.name = "ApiError";
    this.status = status;
    /** The stable code for programs, such as `account_locked`; empty where the body had none. */
    this.code = problem.code || "";
    /** What exactly is wrong, in English, for developers; empty where the body had none. */
    this.detail = problem.detail || "";
    /** Names the request in the gateway's logs; empty where the body had none. */
    this.requestId = problem.request_id || "";
    /** The kinds of codes that are asked for, such as `totp` and `recovery_code`; mostly none. */
    this.factors = problem.factors ?? [];
    this.retryAfter = retryAfter;
    /** `WWW-Authenticate`; empty where there was none, or where it is hidden from a page of another origin. */
    this.challenge = challenge;
  }

  /**
   * @param {Response} response its body not yet read
   * @returns {Promise<ApiError>}
   */
  static async from(response) {
    const challenge = response.headers.get("WWW-Authenticate") ?? "";
    return new ApiError(response.status, await readProblem(response), retryAfter(response), challenge);
  }
}

/**
 * The password was right, and the user has a second factor: `loginWithCode` completes the login.
 */
export class SecondFactorRequired extends ApiError {
  /**
   * @param {Problem} problem
   * @param {string} mfaToken
   * @param {number} expiresIn seconds
   */
  constructor(problem, mfaToken, expiresIn) {
    super(403, problem, null);
    this.name = "SecondFactorRequired";
    /** What the login goes on by; good for one login. */
    this.mfaToken = mfaToken;
    /** How long it counts, in seconds from now. */
    this.expiresIn = expiresIn;
  }

  /**
   * @param {Response} response of a login that failed, its body not yet read
   * @returns {Promise<ApiError>} this error where a second factor is asked for, and else an `ApiError`
   */
  static async from(response) {
    const body = await response
      .clone()
      .json()
      .catch(() => null);
    const error = await ApiError.from(response);
    if (error.code !== "mfa_required" || typeof body?.mfa_token !== "string") return error;
    const { code, message, requestId: request_id, factors } = error;
    return new SecondFactorRequired({ code, message, request_id, factors }, body.mfa_token, Number(body.expires_in) || 0);
  }
}

/** No answer, or only that none can be given now. The session may be as good as before, and the tokens are kept. */
export class NetworkError extends Error {
  /**
   * @param {ApiError | null} [apiError] what was said, if anything
   * @param {unknown} [cause]
   */
  constructor(apiError = null, cause = apiError) {
    super(apiError ? apiError.message : "Cannot reach server.", { cause });
    this.name = "NetworkError";
    this.apiError = apiError;
  }
}

/** There are no tokens, or those there were are no longer good: it takes a login to go on. */
export class AuthenticationRequired extends Error {
  /** @param {SignOutReason | null} [reason] null where no user was signed in */
  constructor(reason = null) {
    super("Please log in first.");
    this.name = "AuthenticationRequired";
    this.reason = reason;
  }
}

/**
 * @param {Response} response
 * @returns {Promise<Problem>} nothing, if what answered was not the gateway
 */
async function readProblem(response) {
  const body = await response.json().catch(() => null);
  if (body === null || typeof body !== "object") return {};
  /** @type {Problem} */
  const problem = {};
  for (const member of /** @type {const} */ (["code", "message", "detail", "request_id"])) {
    if (typeof body[member] === "string") problem[member] = body[member];
  }
  if (Array.isArray(body.factors)) problem.factors = body.factors.filter((/** @type {unknown} */ one) => typeof one === "string");
  return problem;
}

/** @param {Response} response @returns {number | null} seconds (RFC 9110 section 10.2.3) */
function retryAfter(response) {
  const value = response.headers.get("Retry-After") ?? "";
  if (/^\d+$/.test(value)) return Number.parseInt(value, 10);
  const date = Date.parse(value);
  return Number.isNaN(date) ? null : Math.max(0, Math.ceil((date - Date.now()) / 1000));
}

/** The codes that are about the token, so that another one would help. @type {Record<string, SignOutReason>} */
const TOKEN_CODES = {
  invalid_token: "invalid",
  token_expired: "expired",
  token_not_yet_valid: "invalid",
  token_reused: "reused",
  token_revoked: "revoked",
  wrong_token_type: "invalid",
};

/** @typedef {{reason: SignOutReason, isTooEarly: boolean}} TokenRejection */

/**
 * Whether an answer rejects the token that was sent (RFC 6750 section 3.1), and why. The body stays readable.
 * @param {Response} response
 * @returns {Promise<TokenRejection | null>}
 */
export async function tokenRejection(response) {
  if (response.status !== 401) return null;
  const challenge = response.headers.get("WWW-Authenticate");
  if (challenge !== null && !/error="?invalid_token\b/.test(challenge)) return null;
  const { code = "" } = await readProblem(response.clone());
  const reason = Object.hasOwn(TOKEN_CODES, code) ? TOKEN_CODES[code] : undefined;
  // The challenge may be hidden from a page of another origin, or lost on the way: the code says it, too.
  if (challenge === null && reason === undefined) return null;
  return { reason: reason ?? "invalid", isTooEarly: code === "token_not_yet_valid" };
}
