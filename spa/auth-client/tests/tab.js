/**
 * Tabs of a real browser, each with a client of its own.
 * @module
 */

/**
 * A tab, whose `window.client` is the client.
 * @param {import("playwright-core").BrowserContext} profile
 * @param {string} url
 * @param {object} options
 */
export async function openTab(profile, url, options) {
  const tab = await profile.newPage();
  await tab.goto(`${url}/favicon.svg`);
  await tab.evaluate(async (given) => {
    const { AuthClient } = await import(/** @type {string} */ ("/auth-client/src/index.js"));
    Object.assign(window, { client: new AuthClient(given) });
  }, options);
  return tab;
}
