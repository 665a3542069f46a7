// What the worker of a page does, in node: each line of stdin is {page, plain, asked: [request, ..]}, and
// gives a line with the answers: {kernels, answers: [{text, places, found, problem}, ..]}.
const fs = require("fs"), zlib = require("zlib");

function block(html, id) {
  const start = html.indexOf(">", html.indexOf(`id="${id}"`)) + 1;
  return html.slice(start, html.indexOf("</script>", start));
}

function bytesOf(text) {
  const bytes = Buffer.from(text, "base64");
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
}

// Seconds of the CPU since then.
function spent(since) {
  const { user, system } = process.cpuUsage(since);
  return (user + system) / 1e6;
}

async function answered({ page, plain, asked }) {
  const html = fs.readFileSync(page, "utf8"), waiting = new Map();
  const scope = {
    postMessage({ id, piece, places, found, problem, kernels, done }) {
      const answer = waiting.get(id);
      answer.text += piece ?? "";
      if (places) answer.places.push(...places);
      Object.assign(answer, { found, problem, kernels });
      if (done) answer.resolve(answer);
    },
  };
  const inflated = (id) => zlib.inflateSync(Buffer.from(block(html, id), "base64"));
  new Function("self", "WebAssembly", inflated("worker").toString())(scope, plain ? undefined : WebAssembly);
  let id = 0;
  const ask = (request) =>
    new Promise((resolve) => {
      waiting.set(++id, { text: "", places: [], resolve });
      scope.onmessage({ data: { ...request, id } });
    });
  const { model } = JSON.parse(block(html, "data"));
  const begun = await ask({ kind: "begin", model, weights: bytesOf(block(html, "weights")), wasm: inflated("kernel") });
  const answers = [];
  for (const request of asked) {
    const started = process.cpuUsage(), { text, places, found, problem } = await ask(request);
    answers.push({ text, places, found, problem, seconds: spent(started) });
  }
  return { kernels: begun.kernels, problem: begun.problem, answers };
}

(async () => {
  for (const line of fs.readFileSync(0, "utf8").split("\n").filter(Boolean))
    process.stdout.write(JSON.stringify(await answered(JSON.parse(line))) + "\n");
  process.stdout.end(() => process.exit()); // the worker's channel would wait for more
})();
