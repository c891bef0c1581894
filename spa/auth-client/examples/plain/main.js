import { ApiError, AuthClient, AuthenticationRequired } from "auth-gateway-client";

const client = new AuthClient();

/** @param {string} selector */
const get = (selector) => /** @type {HTMLElement} */ (document.querySelector(selector));
const form = /** @type {HTMLFormElement} */ (get("#login"));

/** @param {unknown} error */
function explain(error) {
  if (error instanceof AuthenticationRequired) return "Please log in again.";
  return error instanceof Error ? error.message : String(error);
}

function render() {
  form.hidden = client.hasTokens;
  get("#home").hidden = !client.hasTokens;
  get("#name").textContent = client.claims?.username ?? "";
}

/** @param {() => Promise<string>} action says what to show */
async function run(action) {
  try {
    get("#notice").textContent = await action();
  } catch (error) {
    get("#notice").textContent = explain(error);
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const fields = new FormData(form);
  form.reset();
  run(async () => {
    await client.login(String(fields.get("username")), String(fields.get("password")));
    return "";
  });
});

get("#call").addEventListener("click", () =>
  run(async () => {
    const response = await client.fetch("/protected");
    if (!response.ok) throw await ApiError.from(response);
    return (await response.json()).message;
  }),
);

get("#logout").addEventListener("click", () => run(() => client.logout().then(() => "You are logged out.")));

client.addEventListener("change", render);
render();
