// Print the score of pages by the rules of the MDN HTTP observatory, of a site that the observatory itself cannot reach:
//
//   npm install --ignore-scripts --prefix .cache/observatory @mdn/mdn-http-observatory@1.4.8
//   NODE_EXTRA_CA_CERTS=inventories/NAME/tls-authority.pem node dev/observatory.mjs HOST / /admin/login/
//
// Its own command takes 2xx answers of the home page alone; here every page is judged by the same tests, errors too.
import { existsSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const tool = resolve(process.env.OBSERVATORY ?? ".cache/observatory", "node_modules/@mdn/mdn-http-observatory");
// What its installation would fetch: no site of a test is in the browsers' list.
const preloaded = resolve(tool, "conf/hsts-preload.json");
if (!existsSync(preloaded)) writeFileSync(preloaded, "{}");

const part = (path) => import(pathToFileURL(resolve(tool, "src", path)).href);
const { retrieve } = await part("retriever/retriever.js");
const { ALL_TESTS } = await part("constants.js");
const { getScoreModifier } = await part("grader/grader.js");
const { MINIMUM_SCORE_FOR_EXTRA_CREDIT } = await part("grader/charts.js");

const [host, ...paths] = process.argv.slice(2);
for (const path of paths.length ? paths : ["/"]) {
  const answers = await retrieve(host, { path });
  const results = ALL_TESTS.map((test) => test(answers)).filter((found) => found.result);
  const modifiers = results.map((found) => getScoreModifier(found.result));
  const withoutCredit = modifiers.filter((modifier) => modifier < 0).reduce((sum, modifier) => sum + modifier, 100);
  const all = modifiers.reduce((sum, modifier) => sum + modifier, 100);
  const score = Math.max(0, withoutCredit >= MINIMUM_SCORE_FOR_EXTRA_CREDIT ? all : withoutCredit);
  console.log(`${score} ${path} (status ${answers.responses.auto?.status})`);
  results.forEach((found, index) => console.log(`  ${String(modifiers[index]).padStart(3)} ${found.result}`));
}
process.exit(0);
