/**
 * Lets axios (1.12 or newer) send its requests through an AuthClient, by axios's own adapter for `fetch`.
 * @module
 */

/**
 * @param {import("./auth-client.js").AuthClient} client
 * @returns {{baseURL: string, adapter: "fetch", env: {fetch: typeof fetch}}} for `axios.create`
 */
export function axiosAdapter(client) {
  return {
    baseURL: client.baseUrl,
    adapter: "fetch",
    env: { fetch: (input, init) => client.fetch(input, init) },
  };
}
