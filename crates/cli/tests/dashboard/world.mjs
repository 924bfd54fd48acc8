// What the programs of this folder share: a browser, and the API of the server under test.

import { createRequire } from "node:module";
import path from "node:path";

const { env } = process;
export const url = env.ADJUTANT_URL;
const { chromium } = createRequire(path.join(env.ADJUTANT_TEST_PLAYWRIGHT, "package.json"))("playwright-core");

/** Starts Debian's Chromium, which has no sandbox for root. */
export const launch = () =>
  chromium.launch({ executablePath: env.ADJUTANT_TEST_CHROMIUM, args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] });

/** Asks the API as an administrator. */
export async function api(method, route, body) {
  const answer = await fetch(url + route, {
    method,
    headers: { authorization: `Bearer ${env.ADJUTANT_TOKEN}`, "content-type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${route}: ${answer.status} ${text}`);
  return text ? JSON.parse(text) : null;
}

/** A link that signs in, as the token that this program has. */
export const link = async () => (await api("POST", "/api/sign-in-links")).url;

/** What takes longer than this, in milliseconds, hangs: machines may be busy. */
export const PATIENCE = 60_000;

/** Signs a context in; gives its page. */
export async function signIn(context, address) {
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  await page.goto(address ?? (await link()));
  await page.waitForURL(`${url}/`);
  return page;
}

/** All pages that show something, given ids of what there is. */
export const pages = ({ task, agent }) => [
  "/",
  "/dashboard/fleet",
  `/dashboard/agents/${agent}`,
  "/dashboard/queue",
  "/dashboard/queue?status=pending",
  "/dashboard/queue?status=blocked",
  `/dashboard/tasks/${task}`,
  "/dashboard/dead-letters",
  "/dashboard/limits",
  `/dashboard/limits?scope=agent:${agent}`,
  "/dashboard/limits?scope=model:opus",
  "/dashboard/limits?scope=repo:octo/site",
  "/dashboard/limits?scope=fleet",
  "/dashboard/trends",
  "/dashboard/events",
];
