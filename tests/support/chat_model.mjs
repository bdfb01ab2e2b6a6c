// A small language model behind OpenAI's protocol, on the loopback: node chat_model.mjs MODEL.gguf
// Prints its port once it listens. Seeded; a JSON schema that is asked for is a grammar that it cannot leave.
import { createServer } from "node:http";
import { getLlama, LlamaChatSession } from "node-llama-cpp";

const llama = await getLlama({ gpu: false, build: "never", logLevel: "error" });
const model = await llama.loadModel({ modelPath: process.argv[2] });
const context = await model.createContext({ contextSize: 2048, threads: 1 });

const complete = async (asked) => {
  const sequence = context.getSequence();
  try {
    const [order, data] = asked.messages;
    const session = new LlamaChatSession({ contextSequence: sequence, systemPrompt: order.content });
    const schema = asked.response_format?.json_schema?.schema;
    const grammar = schema && (await llama.createGrammarForJsonSchema(schema));
    const content = await session.prompt(data.content, {
      grammar, maxTokens: asked.max_tokens, temperature: asked.temperature, seed: asked.seed,
    });
    const usage = { prompt_tokens: model.tokenize(data.content).length, completion_tokens: model.tokenize(content).length };
    return { object: "chat.completion", choices: [{ index: 0, message: { role: "assistant", content }, finish_reason: "stop" }], usage };
  } finally {
    sequence.dispose();
  }
};

let turn = Promise.resolve();
const server = createServer((request, response) => {
  let body = "";
  request.on("data", (piece) => (body += piece));
  request.on("end", () => {
    turn = turn.then(() => complete(JSON.parse(body))).then(
      (answer) => response.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify(answer)),
      (error) => response.writeHead(500, { "Content-Type": "application/json" }).end(JSON.stringify({ error: { message: String(error) } })),
    );
  });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
