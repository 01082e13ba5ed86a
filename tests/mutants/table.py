"""The mutants: each law of the architecture, switched off, and the tests that must notice."""

from __future__ import annotations

from tests.mutants.copies import Edit, Mutant

CHAT = "tests/flows/test_chat.py::"
METER = "tests/core/test_meter.py::"
STORE = "tests/store/"
CLIPS = f"{STORE}test_clips.py::"
GENERATIONS = f"{STORE}test_generations.py::"

PROVES = f"{METER}test_an_answer_proves_what_it_proves_under_any_chunking"
LEAVES = f"{CHAT}test_a_caller_who_leaves_changes_nothing_about_the_metering"
STALLS = f"{CHAT}test_a_caller_who_never_reads_is_dropped_and_metered"
INTENT = f"{CHAT}test_the_intent_and_each_attempt_are_durable_before_a_gateway_is_asked"
ENDS = f"{CHAT}test_how_a_stream_ended_decides_what_its_clips_become"
NO_TEAM = f"{CHAT}test_what_no_team_should_see_becomes_an_error_that_is_not_repeated"
REFUSES = f"{STORE}test_tables.py::test_the_database_refuses"

BYTES = (
    Mutant(
        "line ends are made alike on the way",
        2,
        (
            Edit(
                "proxy/core/meter.py",
                'passed = b"".join((*self._held, *more))',
                'passed = b"".join((*self._held, *more)).replace(b"\\r\\n", b"\\n")',
            ),
        ),
        (f"{PROVES}[Chinese n=2, CRLF]",),
    ),
)

BILLED_ONCE = (
    Mutant(
        "the pump belongs to the caller's response, whose finally has the rest settled",
        3,
        (
            Edit(
                "proxy/web/relay.py",
                "        exchange.ended_well = await listen(reply.body, send, keepalive, stall)\n",
                """\
        listening = asyncio.ensure_future(listen(reply.body, send, keepalive, stall))
        leaving = asyncio.ensure_future(receive())
        try:
            await asyncio.wait([listening, leaving], return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            for task in self._house.background._tasks:
                if task.get_name() == reply.generation.id:
                    task.cancel()
""",
            ),
        ),
        (f"{LEAVES}[200]", STALLS),
    ),
    Mutant(
        "the vendor's answer is closed when the caller disconnects",
        3,
        (
            Edit(
                "proxy/flows/chat.py",
                "    house.background.start(generation.id, run.run(call))\n",
                "    run.gone = gone\n    house.background.start(generation.id, run.run(call))\n",
            ),
            Edit(
                "proxy/flows/chat.py",
                "        async for chunk in answer:\n",
                """\
        async for chunk in answer:
            if await self.gone():
                break
""",
            ),
        ),
        (f"{LEAVES}[200]",),
    ),
    Mutant(
        "[DONE] counts as success",
        3,
        (
            Edit(
                "proxy/core/meter.py",
                "        links: list[str] = []\n        for piece in frame.pieces:\n",
                """\
        promised = range(self.delivered, self.clips) if frame.done else ()
        links: list[str] = self._new([f"clip {number}" for number in promised])
        for piece in frame.pieces:
""",
            ),
        ),
        (f"{PROVES}[[DONE] alone, as it is]", f"{ENDS}[[DONE] alone]"),
    ),
    Mutant(
        "a link of the prompt counts",
        3,
        (
            Edit(
                "proxy/core/links.py",
                "        if self._plain is None:\n",
                """\
        if url:
            return False
        if self._plain is None:
""",
            ),
        ),
        (
            f"{PROVES}[a hostile prompt quoted outside the fence, as it is]",
            "tests/core/test_links.py::"
            "test_a_quotation_of_the_request_that_breaks_off_announces_nothing",
        ),
    ),
)

WRITE_AHEAD = (
    Mutant(
        "the hold is written after sending",
        4,
        (
            Edit(
                "proxy/flows/chat.py",
                "                await take_hold(house, generation, call.body)\n",
                "                pass\n",
            ),
            Edit(
                "proxy/flows/chat.py",
                "                met = await rotate(house, generation, call)\n",
                """\
                met = await rotate(house, generation, call)
                await take_hold(house, generation, call.body)
""",
            ),
        ),
        (INTENT,),
    ),
    Mutant(
        "a clip is charged while its link is passed on",
        4,
        (
            Edit(
                "proxy/flows/chat.py",
                "            if reading.links and not await self._charge(reading.links):\n",
                """\
            charge = self._charge(reading.links)
            if self._house.background.start("charge", charge).done():
""",
            ),
        ),
        (f"{CHAT}test_a_link_whose_charge_cannot_be_written_in_time_is_not_passed_on",),
    ),
    Mutant(
        "commits are acknowledged before they are on the disk",
        4,
        (
            Edit(
                "proxy/store/sqlite.py",
                'SYNCHRONOUS: Final = "FULL"',
                'SYNCHRONOUS: Final = "NORMAL"',
            ),
            Edit(
                "proxy/store/sqlite.py",
                '_DURABLE: Final = {2: "FULL", 3: "EXTRA"}',
                '_DURABLE: Final = {1: "NORMAL", 2: "FULL", 3: "EXTRA"}',
            ),
        ),
        (
            f"{STORE}test_sqlite.py::test_the_writer_waits_for_the_disk",
            f"{STORE}test_sqlite.py::test_a_database_that_would_lose_commits_is_refused[NORMAL]",
            f"{STORE}test_power_cut.py::test_nothing_acknowledged_is_lost_in_a_power_cut",
        ),
    ),
)

UNKNOWN = (
    Mutant(
        "silence counts as failure",
        5,
        (
            Edit(
                "proxy/flows/chat.py",
                "        news += [clip.Lost(Reason.LOST)] * verdict.lost\n",
                "        news += [clip.Failed(Reason.LOST)] * verdict.lost\n",
            ),
        ),
        (f"{ENDS}[a cut]",),
    ),
    Mutant(
        "the end of the file tells how an answer ended",
        5,
        (
            Edit(
                "proxy/core/meter.py",
                "account.told_of(whole=whole, framed=complete)",
                "account.told_of(whole=complete, framed=complete)",
            ),
        ),
        (f"{PROVES}[bare end of file, as it is]", f"{ENDS}[a bare end]"),
    ),
    Mutant(
        "an unknown clip is charged by guess",
        5,
        (
            Edit(
                "proxy/store/clips.py",
                "    State.DELIVERED: Kind.CHARGE,\n",
                "    State.DELIVERED: Kind.CHARGE,\n    State.UNKNOWN: Kind.CHARGE,\n",
            ),
        ),
        (f"{CLIPS}test_every_way_keeps_entries_budget_and_flights_in_step[sqlite-lost]",),
    ),
    Mutant(
        "an SDK may repeat a request whose outcome is unknown",
        5,
        (
            Edit(
                "proxy/errors.py",
                '"outcome_unknown": Code(504, "upstream_error")',
                '"outcome_unknown": Code(504, "upstream_error", retry_seconds=5)',
            ),
        ),
        (f"{NO_TEAM}[a reset]",),
    ),
)

MONEY = (
    Mutant(
        "what is settled twice is charged twice",
        6,
        (
            Edit(
                "proxy/store/clips.py",
                "    if isinstance(told, _SAID_BEFORE.get(before, ())):\n",
                """\
    if before is State.DELIVERED and isinstance(told, clip.Delivered):
        _book(tx, clip_id, stands, Kind.CHARGE, now)
    if isinstance(told, _SAID_BEFORE.get(before, ())):
""",
            ),
            Edit(
                "proxy/store/clips.py",
                '        "id": entry_id(kind, clip_id),\n',
                '        "id": f"{kind}:{clip_id}:{now}:{id(stands)}",\n',
            ),
            Edit(
                "proxy/store/migrations/versions/r0001_tables.py",
                "id = kind || ':' || clip_id",
                "id <> ''",
            ),
            Edit(
                "proxy/store/migrations/versions/r0002_guards.py",
                "WHEN EXISTS (SELECT 1 FROM entries WHERE id = NEW.id OR settles = NEW.settles)",
                "WHEN EXISTS (SELECT 1 FROM entries WHERE id = NEW.id)",
            ),
            Edit(
                "proxy/store/migrations/versions/r0001_tables.py",
                'op.create_index("entries_settles", "entries", ["settles"], unique=True)',
                'op.create_index("entries_settles", "entries", ["settles"])',
            ),
        ),
        (f"{CLIPS}test_the_last_event_said_twice_changes_nothing_more[sqlite-delivered]",),
    ),
    Mutant(
        "the database takes an entry by any name",
        6,
        (
            Edit(
                "proxy/store/migrations/versions/r0001_tables.py",
                "id = kind || ':' || clip_id",
                "id <> ''",
            ),
        ),
        (f"{REFUSES}[sqlite-an invented id]",),
    ),
    Mutant(
        "a model without a price is free",
        6,
        (
            Edit(
                "proxy/core/pricing.py",
                "                return Price(line.micros, line.micros, line.version)\n"
                "        return None\n",
                "                return Price(line.micros, line.micros, line.version)\n"
                '        return Price(0, 0, "free")\n',
            ),
        ),
        (
            "tests/core/test_pricing.py::"
            "test_a_model_without_a_line_has_no_price_rather_than_a_free_one",
            f"{CHAT}test_a_model_without_a_price_is_refused_and_one_with_a_price_is_served",
        ),
    ),
    Mutant(
        "others may write between a limit's check and its hold",
        6,
        (
            Edit(
                "proxy/store/sqlite.py",
                'BEGIN: Final = "BEGIN IMMEDIATE"',
                'BEGIN: Final = "BEGIN DEFERRED"',
            ),
        ),
        (f"{STORE}test_admission.py::test_a_write_holds_the_write_lock_before_its_first_read",),
    ),
)

SENT_ONCE = (
    Mutant(
        "any exception counts as not sent",
        7,
        (Edit("proxy/remote/gateway.py", "sent=progress.sent)", "sent=False)"),),
        (f"{NO_TEAM}[a reset]",),
    ),
    Mutant(
        "silence sends the request on to the next gateway",
        7,
        (
            Edit(
                "proxy/core/rotation.py",
                "        if isinstance(last, Silent):\n",
                "        if isinstance(last, Silent) and not rest:\n",
            ),
        ),
        (f"{NO_TEAM}[a reset]",),
    ),
    Mutant(
        "an attempt after a rotation leaves no row",
        7,
        (
            Edit(
                "proxy/flows/rotate.py",
                "        begin_attempt(tx, generation.id, number, name, now)\n",
                "",
            ),
        ),
        (INTENT, f"{CHAT}test_a_failing_gateway_is_followed_by_the_next"),
    ),
)

TENANTS = (
    Mutant(
        "a clip is found by its id alone",
        8,
        (
            Edit(
                "proxy/store/clips.py",
                "CLIPS.c.id == clip_id, CLIPS.c.tenant_id == tenant_id",
                "CLIPS.c.id == clip_id",
            ),
        ),
        (f"{CLIPS}test_a_foreign_clip_looks_like_an_absent_one[sqlite]",),
    ),
    Mutant(
        "a generation is found by its id alone",
        8,
        (
            Edit(
                "proxy/store/generations.py",
                "GENERATIONS.c.id == generation_id, GENERATIONS.c.tenant_id == tenant_id",
                "GENERATIONS.c.id == generation_id",
            ),
        ),
        (f"{GENERATIONS}test_a_foreign_generation_looks_like_an_absent_one[sqlite]",),
    ),
    Mutant(
        "a tenant's usage shows everybody's",
        8,
        (
            Edit(
                "proxy/store/ledger.py",
                "    whose = [] if tenant_id is None else [CLIPS.c.tenant_id == tenant_id]\n",
                "    whose = []\n",
            ),
        ),
        (f"{STORE}test_ledger.py::test_a_tenant_sees_its_own_alone[sqlite]",),
    ),
    Mutant(
        "a refused caller's prompt is logged",
        8,
        (
            Edit(
                "proxy/web/relay.py",
                "        request = chat.read(self._house, body)\n",
                """\
        exchange.note(words=body.decode(errors="replace"))
        request = chat.read(self._house, body)
""",
            ),
        ),
        (f"{CHAT}test_the_line_of_a_refused_request_holds_nothing_of_its_prompt",),
    ),
)

LIMITS = (
    Mutant(
        "a caller who does not read is buffered without end",
        9,
        (
            Edit(
                "proxy/flows/listener.py",
                "if self._bytes + len(chunk) > self.bytes_max and self._chunks:",
                "if self.bytes_max < 0:",
            ),
        ),
        (
            "tests/flows/test_listener.py::"
            "test_a_reader_who_falls_too_far_behind_is_dropped_and_told",
        ),
    ),
)

SHUTDOWN = (
    Mutant(
        "a start leaves the work of a dead process as it is",
        10,
        (
            Edit(
                "proxy/flows/tend.py",
                "    await sweep_orphans(house, dead_before)\n",
                "    del dead_before\n",
            ),
        ),
        (f"{CHAT}test_a_start_makes_unknown_what_a_killed_process_left_open",),
    ),
)

MUTANTS = (
    *BYTES,
    *BILLED_ONCE,
    *WRITE_AHEAD,
    *UNKNOWN,
    *MONEY,
    *SENT_ONCE,
    *TENANTS,
    *LIMITS,
    *SHUTDOWN,
)

UNCHANGED = Mutant(
    "the program as it stands",
    0,
    (),
    tuple(dict.fromkeys(killer for mutant in MUTANTS for killer in mutant.killers)),
)
