/**
 * Requests as `fetch` takes them, made for the gateway and no other host.
 * @module
 */

/**
 * A request that can be sent, and perhaps sent again.
 * @typedef {object} PreparedRequest
 * @property {AbortSignal | null} signal the caller's
 * @property {boolean} isRepeatable whether there is still a body to send it with again
 * @property {(token: string) => Request} withToken made for each time it is sent
 */

/**
 * The address of something at the gateway. A token is good for everybody who gets it, so it goes nowhere else.
 * @param {string} baseUrl without a "/" at its end
 * @param {string | URL} address absolute, or below the base URL
 * @returns {string}
 * @throws {TypeError}
 */
export function resolveUrl(baseUrl, address) {
  const text = String(address);
  const isAbsolute = address instanceof URL || /^[a-z][a-z0-9+.-]*:/i.test(text);
  const url = new URL(isAbsolute ? text : `${baseUrl}${/^[/?#]/.test(text) ? "" : "/"}${text}`);
  const base = new URL(`${baseUrl}/`);
  if (url.origin !== base.origin) {
    throw new TypeError(`The token is for ${base.origin}; use the plain fetch for ${url.origin}.`);
  }
  return url.href;
}

/**
 * @param {string} baseUrl
 * @param {string | URL | Request} input
 * @param {RequestInit} init
 * @returns {PreparedRequest}
 * @throws {TypeError} what `fetch` would throw for the same mistake
 */
export function prepare(baseUrl, input, init) {
  const given = input instanceof Request ? input : null;
  const url = resolveUrl(baseUrl, given ? given.url : /** @type {string | URL} */ (input));
  const isStream = isReadOnce(init.body);
  const options = {
    ...init,
    ...(isStream && { duplex: "half" }),
    cache: init.cache ?? "no-store",
    // Cookies are for who has no token; a request that asks for them by name gets them.
    credentials: init.credentials ?? (given?.credentials === "include" ? "include" : "omit"),
  };
  let isRepeatable = true;
  return {
    signal: init.signal ?? given?.signal ?? null,
    get isRepeatable() {
      return isRepeatable;
    },
    withToken(token) {
      // What is sent for the first time is a copy, so that the body is there for the second. A stream would have to be
      // kept in memory for that, whole.
      const source = given ? (init.body === undefined ? given.clone() : given) : url;
      isRepeatable = !isStream;
      const request = new Request(source, options);
      request.headers.set("Authorization", `Bearer ${token}`);
      return request;
    },
  };
}

/** @param {unknown} body whether it is gone once it was sent */
function isReadOnce(body) {
  if (typeof body !== "object" || body === null) return false;
  return body instanceof ReadableStream || Symbol.asyncIterator in body;
}

/**
 * Waits for a promise, but no longer than the signal lets us.
 * @template T
 * @param {Promise<T>} promise
 * @param {AbortSignal | null} signal
 * @returns {Promise<T>}
 */
export function orAborted(promise, signal) {
  if (signal === null) return promise;
  return new Promise((done, failed) => {
    const abort = () => failed(signal.reason);
    if (signal.aborted) {
      promise.catch(() => {});
      return abort();
    }
    signal.addEventListener("abort", abort, { once: true });
    const end = () => signal.removeEventListener("abort", abort);
    promise.then(done, failed).finally(end);
  });
}

/**
 * @param {number} milliseconds
 * @param {AbortSignal | null} [signal]
 * @returns {Promise<void>}
 */
export async function sleep(milliseconds, signal = null) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const slept = new Promise((done) => (timer = setTimeout(() => done(undefined), milliseconds)));
  try {
    await orAborted(slept, signal);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * A signal that aborts when one of two does. `AbortSignal.any` is younger than some browsers.
 * @param {AbortSignal} one
 * @param {AbortSignal} other
 * @returns {AbortSignal}
 */
export function anySignal(one, other) {
  const either = new AbortController();
  for (const signal of [one, other]) {
    if (signal.aborted) either.abort(signal.reason);
    else signal.addEventListener("abort", () => either.abort(signal.reason), { signal: either.signal });
  }
  return either.signal;
}
