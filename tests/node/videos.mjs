// A team's program for videos: the openai npm SDK, pointed at the proxy and changed in nothing else.
// Prints what it saw as one line of JSON.
import { createHash } from "node:crypto";
import OpenAI, { toFile } from "openai";

const [baseURL, apiKey, model, prompt, ...frames] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey });

try {
  const asked = { model, prompt };
  if (frames.length) {
    const named = frames.map((frame, at) =>
      toFile(Buffer.from(frame, "base64"), `frame${at}.png`, { type: "image/png" }),
    );
    asked.input_reference = await Promise.all(named);
  }
  const created = await client.videos.create(asked);
  let video = created;
  let polls = 0;
  while (["queued", "in_progress"].includes(video.status)) {
    const { data, response } = await client.videos.retrieve(created.id).withResponse();
    video = data;
    polls += 1;
    const pause = Number(response.headers.get("openai-poll-after-ms") ?? 0);
    await new Promise((wake) => setTimeout(wake, pause));
  }
  const content = Buffer.from(await (await client.videos.downloadContent(video.id)).arrayBuffer());
  const listed = [];
  for await (const one of client.videos.list({ limit: 1 })) listed.push(one.id);
  const deleted = await client.videos.delete(video.id);
  let after = 200;
  await client.videos.retrieve(video.id).catch((error) => (after = error.status));
  const sha256 = createHash("sha256").update(content).digest("hex");
  console.log(JSON.stringify({ created, video, polls, sha256, listed, deleted, after }));
} catch (error) {
  console.log(JSON.stringify({ name: error.name, status: error.status, code: error.code }));
}
