import axios from "axios";
import { AuthenticationRequired } from "auth-gateway-client";
import { axiosAdapter } from "auth-gateway-client/axios";
import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";

import { client, useClaims } from "./auth";

const api = axios.create(axiosAdapter(client));

function explain(error: unknown): string {
  const cause = axios.isAxiosError(error) ? (error.cause ?? error) : error;
  if (cause instanceof AuthenticationRequired) return "Please log in again.";
  return cause instanceof Error ? cause.message : String(cause);
}

function App() {
  const claims = useClaims();
  const [notice, setNotice] = useState("");
  const run = (action: () => Promise<string>) => action().then(setNotice, (error) => setNotice(explain(error)));

  return (
    <>
      {claims === null ? (
        <form
          action={(fields) =>
            run(() => client.login(String(fields.get("username")), String(fields.get("password"))).then(() => ""))
          }
        >
          <label>
            Username <input name="username" autoComplete="username" required />
          </label>
          <label>
            Password <input name="password" type="password" autoComplete="current-password" required />
          </label>
          <button>Log in</button>
        </form>
      ) : (
        <>
          <h1>Welcome, {claims.username}</h1>
          <button
            id="call"
            type="button"
            onClick={() => run(async () => (await api.get<{ message: string }>("/protected")).data.message)}
          >
            Call
          </button>
          <button id="logout" type="button" onClick={() => run(() => client.logout().then(() => "You are logged out."))}>
            Log out
          </button>
        </>
      )}
      <p id="notice" role="status">
        {notice}
      </p>
    </>
  );
}

createRoot(document.getElementById("app")!).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
