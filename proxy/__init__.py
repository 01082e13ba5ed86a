"""Clipmeter: an OpenAI-compatible caching and metering reverse proxy for per-clip video generation.

**web** listens, **flows** run one request end to end, **core** decides, **remote** dials out,
**store** remembers, **files** writes what people take away, **sandbox** pretends to be the vendor.
Read across, one name is a feature (web/relay, flows/chat, core/meter); read down, a folder is a
layer, and imports point one way (tests/house/layers.py has the table).

The map
-------

__main__.py       The command `clipmeter`, as `python -m proxy`.
cli.py            The command `clipmeter`: what operators type, and what they are told.
commands.py       Does one operator's command: here, or through the running server that holds the
                  data folder.
check.py          Looks for problems before callers meet them: configuration, folder, database,
                  gateways.
serve.py          Runs a server from its lock to its last answer: sandbox, stamp, sockets, signals,
                  drain.
demo.py           The demo: two clips through pretended gateways, with a live bar, two MP4s and a
                  checked bill.
workers.py        Several server processes behind one socket, which needs PostgreSQL (decision 17).
terminal.py       What commands print: tables drawn on a terminal, plain aligned columns anywhere
                  else.
app.py            create_app(config): the only place that knows everybody, and the home of clocks
                  and ids.
door.py           uvicorn's protocol, with bounds that it leaves to whoever stands in front of it.
control.py        The local socket by which commands reach a running server's one writer.
config.py         config.yaml + environment → one frozen Config; every limit is named here.
config_file.py    config.yaml as plain values: where it is looked for, what is filled in, what is
                  refused.
config_values.py  What one value of config.yaml may be: amounts, sizes, addresses, secrets, names.
config_checks.py  What is wrong with a configuration, in words: one key at a time, and keys that
                  disagree.
errors.py         The refusals a caller can see: status, code, message.
metrics.py        Every Prometheus series, declared once, on our own registry.
logs.py           One JSON line a request; an allow-list of fields.

core/             DECIDE: pure values and functions; no await, clock, randomness, disk, socket or
                  framework.
  budget.py       May this tenant spend n more clips?
  caller.py       Who is asking: the tenant and the role behind a key, and which models it may use.
  catalog.py      Model names, their axes, what each accepts.
  clip.py         The life of a clip: states, events, one transition table.
  encoding.py     What an encoded answer says: the meter reads it decoded, the caller gets the bytes
                  that came.
  failure.py      Why a clip was not delivered: a closed list, read from the vendor's codes and
                  words.
  headers.py      Which headers may cross, each way, and what the vendor's headers tell.
  images.py       What an image is, judged by its first bytes and its header, without decoding it.
  job.py          What the vendor says of a video job: every envelope on record, read totally.
  keys.py         What a key looks like, how it is stored, and how one secret becomes one key for
                  each purpose.
  ledger.py       Append-only entries with derived ids; balances are folds.
  links.py        Which links in an answer's text announce a clip, and which lines say that one
                  failed.
  meter.py        Watches one answer go by; says which clips were Delivered, Failed or Lost.
  playback.py     Signed links to a kept clip: for a while, anybody who has one may play it, without
                  a key.
  portions.py     An answer to a conditional or range request as HTTP: header fields, and a body in
                  pieces.
  pricing.py      Effective-dated price book; what a delivered clip costs, in whole micro-dollars.
  ranges.py       Conditional and range requests (RFC 9110): what of a kept clip a request gets.
  refusal.py      What kind of refusal an answer is: the vendor's error envelopes, codes and words,
                  read totally.
  request.py      A paid request as its sender wrote it: read, and refused where it is not clear
                  what it buys.
  rotation.py     Which gateway next: Try, Relay, Unavailable or Unanswered; gateway health as a
                  value.
  sse.py          Bytes in any chunking → events.
  statement.py    Entries → rows finance can use, totals that add up.
  submission.py   A request for a video as the vendor gets it: the model, the prompt, the images,
                  nothing else.
  variants.py     Which model a caller's words come to: by its own name exactly, under an alias as
                  near as can be.
  video.py        OpenAI's `Video` object, made of what we know of a clip; lists of it; when to ask
                  again.
  video_request.py A request for a video, JSON or form, as its sender wrote it: read, or refused
                  with a reason.
  wire.py         The shapes we read, and the few we write: stream frames, completions, error
                  frames.

remote/           DIAL: every outgoing connection starts here and nowhere else; trouble comes back
                  as a value.
  answer.py       A gateway's answer as it arrives: raw bytes, and an honest word about how they
                  ended.
  download.py     A finished clip's bytes, through the guard: unencoded, limited, resumed only where
                  it is safe.
  gateway.py      The only dialler of the gateways: open, get, probe; trouble comes back as an
                  outcome.
  guard.py        Which addresses may be dialled for a clip: public ones only, judged where the
                  socket is made.

store/            REMEMBER: SQL and object storage live here and nowhere else.
  admission.py    Admission: the intent, its clips' holds and every limit they count against, in one
                  transaction.
  audit.py        Every invariant of the ledger, over the whole of it, each as one query for what
                  breaks it.
  backend.py      What `Database` needs to know about one kind of database.
  bucket.py       Clip bytes as objects in a bucket (S3, Google Cloud Storage, Azure), through
                  obstore.
  clips.py        Clips and what becomes of them: one event → the clip's row, its entry and every
                  count, once.
  database.py     SQLite or PostgreSQL; one transaction per write; group commit.
  eviction.py     Which clips leave the vault: those past their time, then those unused longest,
                  until it fits.
  folder.py       Clip bytes as files in a folder: published whole or not at all, checked before
                  they are read.
  gauges.py       What the metrics ask of the tables: states that no event tells.
  generations.py  Paid requests after their admission: attempts, answers, ends, and those whose
                  process died.
  held.py         A file held open: read from anywhere in it, whatever becomes of its name in the
                  meantime.
  incoming.py     A clip on its way into the vault: a file that grows, and those who read it while
                  it does.
  kept.py         What the vault keeps of a clip: kinds, names, and the first bytes by which each
                  kind is known.
  keys.py         Keys: kept as digests, found by them, revoked at once.
  ledger.py       What the ledger says: usage by month, what is unsettled, what a budget has left.
  lock.py         One process for one data folder: the lock that a second `serve` finds held.
  migrations/     The schema and its history; brought up to date by whoever starts.
    env.py        What Alembic runs: the revisions, on the connection that `migrate` has begun to
                  write with.
  moments.py      Times in the database: aware UTC, to the microsecond, alike on SQLite and
                  PostgreSQL.
  part.py         A file on its way into a folder: written, hashed, then published or dropped, never
                  both.
  postgres.py     PostgreSQL: for more than one process, through psycopg, with one writer at a time.
  prepared.py     Core statements of the paid path, compiled once for each database and run by its
                  driver.
  prices.py       The price book on disk: lines are added, never changed, and never behind an
                  accepted clip.
  processes.py    Running servers' signs of life, and facts about the installation.
  reader.py       A few threads that read, each on its own connection, each time one unchanging
                  state.
  sqlite.py       SQLite: one file, one writer, every commit on the disk before it is acknowledged.
  tables.py       The rows, declared with SQLModel; statements use the Core tables named at the end.
  tenants.py      Tenants and their limits.
  vault.py        Clip bytes, kept long after the vendor's link died: in a folder, or in an
                  S3-compatible bucket.
  writer.py       The one thread that writes: many callers' writes in one commit.

flows/            RUN: one request or job, end to end; asks core, uses remote and store.
  admit.py        The way in: may this caller spend, and is the intent durable before anything is
                  sent?
  audit.py        Every invariant of the ledger, checked over the whole of it.
  background.py   Owns every task that outlives its request; drained at shutdown.
  chat.py         admit → rotate → pump → settle: one chat request, whether or not its caller stays.
  fleet.py        Keeps what is known of the gateways' health, and asks the doubtful ones how they
                  are.
  generation.py   One paid request on its way through this process, and what is told to its caller.
  house.py        What every flow works with: made once by the application, handed to each flow.
  listener.py     A caller's end of an answer: a bounded buffer that the pump fills and never waits
                  for.
  operator.py     What an operator's command works with, whether a server runs or not.
  readiness.py    Would paid work be taken now? Asked by whatever sends callers to this process.
  rotate.py       A paid POST through the gateways: one attempt at a time, each a row, until one
                  answers.
  settle.py       One verdict → clip, entry, metrics; exactly once.
  stamp.py        Real clips and pretended ones never share an installation (decision 20).
  tenants.py      Tenants and keys as operators make them: names and limits are checked, secrets
                  shown once.
  tend.py         The chores of a running server: its sign of life, the dead's unfinished work, old
                  unknowns.
  usage.py        What was bought in a month: for finance by any dimension, for a tenant its own and
                  what is left.

files/            WRITE: rows and clips become what people take away.
  thumbnail.py    A clip as a picture: one frame of it as WebP, or sixteen of them on one sheet as
                  JPEG.

web/              LISTEN: the HTTP edge.
  auth.py         key → tenant and role, or a refusal.
  callers.py      Who asks a typed route: dependencies that name the roles a route is open to.
  edge.py         The outermost ASGI application: request ids, one log line and the metrics of every
                  request.
  exchange.py     One HTTP exchange: what was asked, by whom, and what the log line and the metrics
                  say of it.
  models.py       `GET /v1/models`: what the caller's team may ask for today, and what a clip of it
                  costs.
  ops.py          `/healthz`, `/readyz` and `/metrics`: what machines ask of a server.
  problems.py     Whatever goes wrong in a typed route comes out in OpenAI's error envelope.
  relay.py        The data plane as plain ASGI, declared in one route table; all else goes to the
                  typed routes.
  table.py        The relay's routes, in one table: the dispatcher, OpenAPI and the tenancy tests
                  read it.
  typed.py        Everything people read or administer: typed routes, with an OpenAPI document that
                  is true.
  usage.py        `GET /v1/usage`: the caller's own numbers, and what is left of its budget.

sandbox/          PRETEND: the three gateways, simulated: real SSE, real MP4s, faults on demand.
  bill.py         The vendor's own bill: what it made, for whom, and what that costs.
  card.py         The picture of a pretend clip: a title card drawn onto the planes of a YUV 4:2:0
                  frame.
  chat.py         `POST /v1/chat/completions` at a gateway.
  control.py      The control route, on every gateway: faults, the bill, the links, the table of
                  words.
  directives.py   The words by which a caller bends the sandbox: one table for the parser, the help
                  and the README.
  door.py         A gateway's listening socket, which can be shut: connections refused, or never
                  answered.
  errors.py       Every error body the vendor, its sibling and their kin are known to send.
  exchange.py     One request at one gateway, with everything its answer needs.
  faults.py       Which faults bend one request: words read from its prompt, and rules set by the
                  control route.
  film.py         What is in a clip's file, found by decoding it.
  font.py         The letters of the pretend clips: a 5 by 9 bitmap font, drawn smooth at any size.
  frames.py       Payloads as server-sent events, with the noise that is legal, or at least seen,
                  around them.
  gateway.py      One gateway: takes connections, reads requests, knows the routes, and applies the
                  faults.
  grammar.py      What a word of the sandbox looks like: its arguments, and what they may be.
  http.py         A small HTTP/1.1 server connection, exact about what goes onto the socket and
                  when.
  jobs.py         A job on its way: what happens to it and when, told to everyone who watches.
  links.py        Where clips are fetched: plain links, signed links, ranges, and the XML of a dead
                  one.
  orders.py       What a caller asks of the vendor, read and checked the way the vendor does.
  render.py       A title card as a real MP4: H.264 and AAC, eight seconds, index first.
  sandbox.py      Starts the three gateways and their pretend vendor, and speaks for them.
  script.py       A chat answer, chunk by chunk: what is said when, in which channel and which
                  choice.
  studio.py       Films the clips: renders each on first request, off the event loop, and keeps the
                  latest.
  vendor.py       The pretend vendor behind the three gateways: jobs that run to their end, clips,
                  and its bill.
  videos.py       `/v1/videos` at a gateway: create, status and content, in every shape on record.
  wire.py         One answer on its way onto the socket, and the faults that bend it there.
  words.py        The sentences of a chat answer: the captured Chinese ones, the documented English,
                  and kin.

The laws
--------

1.  Decisions live in `core` and take time, ids and bytes as arguments.
2.  Bytes cross unchanged. We watch the stream and do not rewrite it: SHA-256 in equals SHA-256 out.
3.  A clip is billed when a link to it, or its bytes, for this request are in our hands: once,
    whatever the caller did. The pump waits for nobody; a caller who leaves is still metered and can
    come back for the clip. Failing to archive it later changes no charge.
4.  Write ahead. The intent row is durable before the first upstream byte, a clip's charge before
    the bytes that announce it are passed on. Durable means committed; if that is not possible, the
    stream is cut before the announcing bytes.
5.  Unknown is a state, not a zero. Sent and unanswered is neither success nor failure: it is
    listed, valued and chased, and never billed to a tenant by guess.
6.  Money is whole micro-dollars; entries are never edited; ids are derived from facts, so doing a
    thing twice changes nothing. For each resolved clip: hold = charge + release.
7.  A paid POST is never in flight twice, and never resent after it may have been accepted, except
    on a 5xx reply, which the vendor documents as not billed. Every attempt leaves a row, and one
    that may have been accepted books an exposure.
8.  Every object is reached through its tenant. There is no look-up by id alone.
9.  Every queue, body, wait, retry and loop has a limit with a name in `config.py`.
10. Nothing durable depends on shutdown code.
"""
