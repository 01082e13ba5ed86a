// A team's program: the openai npm SDK, pointed at the proxy and changed in nothing else.
// Prints what it saw as one line of JSON.
import OpenAI from "openai";

const [baseURL, apiKey, mode, model, prompt, n] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey });
const asked = { model, n: Number(n), messages: [{ role: "user", content: prompt }] };

try {
  let text = "";
  let chunks = 0;
  let requestId;
  if (mode === "stream") {
    const { data, request_id } = await client.chat.completions
      .create({ ...asked, stream: true })
      .withResponse();
    requestId = request_id;
    for await (const chunk of data) {
      chunks += 1;
      text += chunk.choices[0]?.delta?.content ?? "";
    }
  } else {
    const { data, request_id } = await client.chat.completions.create(asked).withResponse();
    requestId = request_id;
    chunks = 1;
    text = data.choices.map((choice) => choice.message.content).join("\n");
  }
  const models = [];
  for await (const one of client.models.list()) models.push(one.id);
  console.log(JSON.stringify({ text, chunks, requestId, models }));
} catch (error) {
  console.log(JSON.stringify({ name: error.name, status: error.status, code: error.code }));
}
