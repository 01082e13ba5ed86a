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
                  vault, gateways.
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
series.py         Prometheus series on a registry of our own: declared, added up over workers, and
                  rendered.
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
  acceptance.py   What a gateway's answer to a new video job means: accepted, ended at once, or
                  nobody can say.
  budget.py       May this tenant spend n more clips?
  caller.py       Who is asking: the tenant and the role behind a key, and which models it may use.
  catalog.py      Model names, their axes, what each accepts.
  clip.py         The life of a clip: states, events, one transition table.
  columns.py      A table's columns: what a cell of each kind holds, and how it is written as text.
  content_request.py What a request for a clip's content asks for: which picture of it, in which
                  form, from where.
  corrections.py  Late facts about closed months become lines of an open one: a reversal, and a new
                  line.
  encoding.py     What an encoded answer says: the meter reads it decoded, the caller gets the bytes
                  that came.
  export.py       One finance row for each clip, correction and credit: columns, order and totals.
  failure.py      Why a clip was not delivered: a closed list, read from the vendor's codes and
                  words.
  focus.py        Rows → FOCUS 1.2 and 1.4, the FinOps Open Cost and Usage Specification, dataset
                  Cost and Usage.
  focus_columns.py FOCUS's columns as we write them: their names, kinds and order, by version of the
                  specification.
  focus_model.py  FOCUS's published model of Cost and Usage as one table: which columns there are,
                  what they hold.
  focus_relations.py What the columns of one FOCUS row must say together, as a table of rules.
  focus_rules.py  Does a FOCUS file keep the rules? Columns, formats, and what the columns of a row
                  say together.
  headers.py      Which headers may cross, each way, and what the vendor's headers tell.
  images.py       What an image is, judged by its first bytes and its header, without decoding it.
  job.py          What the vendor says of a video job: every envelope on record, read totally.
  keys.py         What a key looks like, how it is stored, and how one secret becomes one key for
                  each purpose.
  ledger.py       Append-only entries with derived ids; balances are folds.
  links.py        Which links in an answer's text announce a clip, and which lines say that one
                  failed.
  manifest.py     A closed month's manifest: what was closed, sealed by hashes that chain month to
                  month.
  meter.py        Watches one answer go by; says which clips were Delivered, Failed or Lost.
  months.py       A month's life: open, closing while late facts still arrive, closed for good.
  patience.py     How long a clip that cannot be fetched is tried again: until its link dies, and
                  once more.
  playback.py     Signed links to a kept clip: for a while, anybody who has one may play it, without
                  a key.
  portions.py     An answer to a conditional or range request as HTTP: header fields, and a body in
                  pieces.
  prepaid.py      Top-ups of the prepaid vendor account, and what a dollar of its balance really
                  cost.
  pricing.py      Effective-dated price book; what a delivered clip costs, in whole micro-dollars.
  pursuit.py      What a gateway's word about a video job means: when to ask whom next, and when the
                  job has ended.
  ranges.py       Conditional and range requests (RFC 9110): what of a kept clip a request gets.
  reconcile.py    Our clips against the vendor's lines: what both have, what only one has, what
                  differs.
  refusal.py      What kind of refusal an answer is: the vendor's error envelopes, codes and words,
                  read totally.
  replay.py       When two requests are the same request: by a key, by an SDK's count of tries, or
                  by content.
  request.py      A paid request as its sender wrote it: read, and refused where it is not clear
                  what it buys.
  retelling.py    An answer made afresh, in the vendor's documented form, of clips that are kept.
  rotation.py     Which gateway next: Try, Relay, Unavailable or Unanswered; gateway health as a
                  value.
  sse.py          Bytes in any chunking → events.
  statement.py    Entries → rows finance can use, totals that add up.
  submission.py   A request for a video as the vendor gets it: the model, the prompt, the images,
                  nothing else.
  variants.py     Which model a caller's words come to: by its own name exactly, under an alias as
                  near as can be.
  vendor_book.py  The vendor's lines by request: what each request cost there, after refunds.
  vendor_csv.py   An invoice or a list of the vendor's as CSV: which column says what is
                  configurable.
  vendor_lines.py What the vendor says it took from our account: lines of its lists, read totally.
  vendor_values.py Single values of the vendor's lists and of invoices: amounts, times, ids, read
                  totally.
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
  answers.py      What callers were answered, byte for byte, kept for whoever asks the same again.
  audit.py        Every invariant of the ledger, over the whole of it, each as one query for what
                  breaks it.
  backend.py      What `Database` needs to know about one kind of database.
  bucket.py       Clip bytes as objects in a bucket (S3, Google Cloud Storage, Azure), through
                  obstore.
  clips.py        Clips and what becomes of them: one event → the clip's row, its entry and every
                  count, once.
  database.py     SQLite or PostgreSQL; one transaction per write; group commit.
  earlier.py      Which earlier request a new one repeats: by its key, its SDK's count of tries, or
                  its content.
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
  jobs.py         Jobs that are followed: who asks about which, taken over from the dead, ended
                  once.
  keepings.py     What becomes of delivered clips' bytes: waiting to be fetched, kept, lost,
                  evicted, deleted.
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
  replay.py       Answers that are given again: how the first request stands, and what giving it
                  again avoids.
  sqlite.py       SQLite: one file, one writer, every commit on the disk before it is acknowledged.
  tables.py       The rows, declared with SQLModel; statements use the Core tables named at the end.
  tenants.py      Tenants and their limits.
  vault.py        Clip bytes, kept long after the vendor's link died: in a folder, or in an
                  S3-compatible bucket.
  videos.py       Clips as their own tenant sees them: one, a page of them, and one that it wants
                  forgotten.
  writer.py       The one thread that writes: many callers' writes in one commit.

flows/            RUN: one request or job, end to end; asks core, uses remote and store.
  admit.py        The way in: may this caller spend, and is the intent durable before anything is
                  sent?
  archive.py      Finished clips are fetched into the vault before their link dies.
  audience.py     All who listen to one answer: the caller who bought it, and whoever joins from its
                  first byte.
  audit.py        Every invariant of the ledger, checked over the whole of it.
  background.py   Owns every task that outlives its request; drained at shutdown.
  chat.py         admit → rotate → pump → settle: one chat request, whether or not its caller stays.
  claim.py        What a request says of itself as a repeat of an earlier one: by its headers, by
                  its body.
  conclude.py     How a followed job ends: its clip and its rows settled in one transaction, under
                  the fence.
  content.py      Which bytes a caller gets for a clip: those that are kept, those coming in, or the
                  vendor's own.
  evict.py        Keeps the vault in order: clips leave it by age and for room, leftovers go, damage
                  is found.
  fetch.py        Opens a finished clip's bytes: behind its link, or at a gateway's `/content` with
                  our key.
  fleet.py        Keeps what is known of the gateways' health, and asks the doubtful ones how they
                  are.
  follow.py       Unfinished jobs are polled until they end, whoever is watching.
  generation.py   One paid request on its way through this process, and what is told to its caller.
  house.py        What every flow works with: made once by the application, handed to each flow.
  listener.py     A caller's end of an answer: a bounded buffer that the pump fills and never waits
                  for.
  operator.py     What an operator's command works with, whether a server runs or not.
  own_vault.py    Whether the vault is this installation's own: what it lacks is believed only then.
  paid.py         What every paid request has in common: a reply for its caller, and an end that
                  settles its clips.
  pictures.py     A clip's thumbnail and its sheet of frames: made once from the kept clip, and kept
                  beside it.
  poll.py         One question to one gateway about one job; whatever it meets comes back as a
                  value.
  readiness.py    Would paid work be taken now? Asked by whatever sends callers to this process.
  redirect.py     Sends callers on to the bucket itself, where a checked clip is, by links of
                  minutes.
  replay.py       An answer given again for free: what an earlier request means for the one that
                  repeats it.
  reply.py        What the caller of a paid request gets: bought just now, or given again.
  rotate.py       A paid POST through the gateways: one attempt at a time, each a row, until one
                  answers.
  savings.py      What giving an answer again has saved: clips that cost nothing, booked once they
                  are delivered.
  settle.py       One verdict → clip, entry, metrics; exactly once.
  stamp.py        Real clips and pretended ones never share an installation (decision 20).
  standing.py     What is known of each video, from memory where fresh: pollers cost next to
                  nothing.
  submit.py       admit → rotate → read → follow: one video job, handed over to the follower, or
                  ended at once.
  tenants.py      Tenants and keys as operators make them: names and limits are checked, secrets
                  shown once.
  tend.py         The chores of a running server: its sign of life, the dead's unfinished work, old
                  unknowns.
  usage.py        What was bought in a month: for finance by any dimension, for a tenant its own and
                  what is left.
  videos.py       A tenant's videos: one, a page of them, or one less; each as OpenAI's `Video`
                  object.

files/            WRITE: rows and clips become what people take away.
  csv_text.py     Rows as CSV (RFC 4180): one profile for machines, one that a spreadsheet opens as
                  it should.
  json_lines.py   Rows as JSON Lines: one object a row, every column in it, decimals as strings.
  parquet.py      Rows as Parquet: exact decimals, UTC timestamps, row groups of a bounded size.
  tabular.py      Every format an export is taken away in: its name, its media type, and rows → its
                  bytes.
  thumbnail.py    A clip as a picture: one frame of it as WebP, or sixteen of them on one sheet as
                  JPEG.
  workbook.py     Rows as XLSX: typed cells below a frozen header, and a first sheet of totals that
                  are formulas.
  workbook_totals.py The first sheet of a workbook: what its rows add up to, in all and by group, as
                  formulas.

web/              LISTEN: the HTTP edge.
  auth.py         key → tenant and role, or a refusal.
  body.py         A request's body as it comes, bounded in bytes and in time.
  callers.py      Who asks a typed route: dependencies that name the roles a route is open to.
  content.py      `/v1/videos/{id}/content`: a clip's bytes or its pictures, by a key or by a signed
                  link.
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
  shapes.py       What stands in the relay's requests and replies, for the OpenAPI document and for
                  nobody else.
  table.py        The relay's routes, in one table: the dispatcher, OpenAPI and the tenancy tests
                  read it.
  typed.py        Everything people read or administer: typed routes, with an OpenAPI document that
                  is true.
  upload.py       A multipart form, read while it comes: each of its parts is bounded before it is
                  all there.
  usage.py        `GET /v1/usage`: the caller's own numbers, and what is left of its budget.
  videos.py       `/v1/videos`: an order read from its form or its JSON, and answers about a team's
                  own clips.

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
