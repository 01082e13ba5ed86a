"""The mutants: each law of the architecture, switched off, and the tests that must notice."""

from __future__ import annotations

from tests.mutants.copies import Edit, Mutant

CHAT = "tests/flows/test_chat.py::"
SUBMIT = "tests/flows/test_submit.py::"
METER = "tests/core/test_meter.py::"
ARCHIVE = "tests/flows/test_archive.py::"
CONTENT = "tests/flows/test_content.py::"
EVICT = "tests/flows/test_evict.py::"
SERVED = "tests/web/test_content.py::"
FOLLOW = "tests/flows/test_follow.py::"
PURSUIT = "tests/core/test_pursuit.py::"
GUARD = "tests/remote/test_guard.py::"
STORE = "tests/store/"
CLIPS = f"{STORE}test_clips.py::"
GENERATIONS = f"{STORE}test_generations.py::"
EARLIER = f"{STORE}test_earlier.py::"
REPLAY = "tests/flows/test_replay.py::"
AUDIENCE = "tests/flows/test_audience.py::"
AGAIN = f"{REPLAY}test_a_finished_answer_is_given_again_byte_for_byte"

PROVES = f"{METER}test_an_answer_proves_what_it_proves_under_any_chunking"
LEAVES = f"{CHAT}test_a_caller_who_leaves_changes_nothing_about_the_metering"
STALLS = f"{CHAT}test_a_caller_who_never_reads_is_dropped_and_metered"
INTENT = f"{CHAT}test_the_intent_and_each_attempt_are_durable_before_a_gateway_is_asked"
ENDS = f"{CHAT}test_how_a_stream_ended_decides_what_its_clips_become"
NAMED_JOB = f"{SUBMIT}test_a_job_with_a_name_is_followed_whatever_its_answer_looks_like"
NAMELESS = f"{SUBMIT}test_an_answer_that_names_no_job_is_unknown_and_never_a_failure"
UNANSWERED = f"{SUBMIT}test_an_unanswered_submit_is_unknown_and_never_sent_again"
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
    Mutant(
        "kept bytes are given out unchecked",
        2,
        (
            Edit(
                "proxy/store/folder.py",
                "if self._is_verified(kept, status) or self._verify(descriptor, kept, status):",
                "if self._verified is not None:",
            ),
        ),
        (
            f"{CONTENT}test_damaged_bytes_are_never_given_out_and_are_fetched_again[folder]",
            f"{CONTENT}test_damaged_bytes_whose_link_is_dead_are_gone[folder]",
        ),
    ),
    Mutant(
        "a clip that broke off on its way in ends as if it were whole",
        2,
        (
            Edit(
                "proxy/web/content.py",
                """\
    except (TimeoutError, NotFinished, VaultUnavailable):
        _note_broken(exchange, pour)
        return
""",
                """\
    except (TimeoutError, NotFinished, VaultUnavailable):
        _note_broken(exchange, pour)
""",
            ),
        ),
        (f"{CONTENT}test_what_breaks_off_on_its_way_in_looks_broken",),
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
                "    run.begin(call)\n",
                "    run.gone = gone\n    run.begin(call)\n",
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
    Mutant(
        "a job that is completed without a link counts as delivered",
        3,
        (
            Edit(
                "proxy/core/acceptance.py",
                "        case Job(url=str(link)):\n",
                """\
        case Job(needs_content=True):
            return Over(clip.Delivered(""), said.id)
        case Job(url=str(link)):
""",
            ),
        ),
        (f"{NAMED_JOB}[completed without a link]",),
    ),
    Mutant(
        "a job is let go with the caller who waits for it",
        3,
        (
            Edit(
                "proxy/flows/submit.py",
                "    return await run.reply()\n",
                """\
    try:
        return await run.reply()
    except asyncio.CancelledError:
        for task in house.background._tasks:
            if task.get_name() == generation.id:
                task.cancel()
        raise
""",
            ),
        ),
        (f"{SUBMIT}test_the_job_of_a_caller_who_leaves_is_followed",),
    ),
)

WRITE_AHEAD = (
    Mutant(
        "the hold is written after sending",
        4,
        (
            Edit(
                "proxy/flows/paid.py",
                "                repeat = await admitted(house, generation, prompt)\n",
                "                repeat = None\n",
            ),
            Edit(
                "proxy/flows/paid.py",
                "                met = await rotate(house, generation, call)\n",
                """\
                met = await rotate(house, generation, call)
                await admitted(house, generation, prompt=None)
""",
            ),
        ),
        (INTENT, f"{SUBMIT}test_the_intent_is_durable_before_the_gateway_is_asked"),
    ),
    Mutant(
        "a job's name is written down after its caller was answered",
        4,
        (
            Edit(
                "proxy/flows/submit.py",
                "            add_job(tx, clip_id, gateway, accepted.id, owner, now)\n",
                "",
            ),
            Edit(
                "proxy/flows/submit.py",
                "        self._house.standings.forget(self._clip_id)\n",
                """\
        house, one = self._house, self._generation
        job = (self._clip_id, one.gateway, one.upstream_id, house.process_id, house.clock.now())
        writing = house.database.write(lambda tx: add_job(tx, *job))
        house.background.start(f"{one.id} job", writing)
""",
            ),
        ),
        (f"{SUBMIT}test_a_job_is_durable_with_all_it_needs_before_its_caller_is_answered",),
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
        "an answer that names no job counts as failure",
        5,
        (
            Edit(
                "proxy/core/acceptance.py",
                '    return Untold("" if isinstance(said, Job) else said.words)\n',
                "    return Over(clip.Failed(Reason.VENDOR_ERROR))\n",
            ),
        ),
        (f"{NAMELESS}[a web page]", f"{NAMELESS}[no name]"),
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
        (f"{NO_TEAM}[a reset]", f"{UNANSWERED}[a reset]"),
    ),
    Mutant(
        "a key is not written down with what it bought",
        7,
        (
            Edit(
                "proxy/store/earlier.py",
                "        _name(tx, ask.generation_id, ask)\n",
                "        pass\n",
            ),
        ),
        (f"{EARLIER}TestKeys::test_of_fifty_at_once_one_is_bought[sqlite]",),
    ),
    Mutant(
        "one purchase is joined by two callers at the same count",
        7,
        (Edit("proxy/store/earlier.py", "            _join(tx, tried[0], ask)\n", ""),),
        (
            f"{EARLIER}TestRepeats::test_the_repeats_of_twins_join_one_each[sqlite]",
            f"{EARLIER}TestRepeats::"
            "test_repeats_of_one_count_at_once_join_as_many_as_there_are[sqlite]",
        ),
    ),
    Mutant(
        "what repeats a finished request is sent all the same",
        7,
        (
            Edit(
                "proxy/flows/paid.py",
                "            if repeat is not None:\n",
                "            if repeat is not None and repeat.run is not None:\n",
            ),
        ),
        (f"{AGAIN}[streamed]", f"{AGAIN}[unstreamed]"),
    ),
    Mutant(
        "every error frees the key of its request",
        7,
        (
            Edit(
                "proxy/flows/paid.py",
                "        may_come_again = _invites(reply)\n",
                "        may_come_again = reply.status >= 400\n",
            ),
        ),
        (
            f"{AGAIN}[refused for its prompt]",
            f"{AGAIN}[our account]",
            f"{REPLAY}test_every_gateways_5xx_is_given_again_and_not_sent_again",
        ),
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
        "a clip's content is found by its id alone",
        8,
        (
            Edit(
                "proxy/store/videos.py",
                "CLIPS.c.id == clip_id, CLIPS.c.tenant_id == tenant_id, CLIPS",
                "CLIPS.c.id == clip_id, CLIPS",
            ),
        ),
        (
            f"{SERVED}test_only_a_tenants_key_or_a_link_opens_it",
            f"{SERVED}test_a_clip_without_bytes_says_why",
        ),
    ),
    Mutant(
        "a link that nobody signed opens a clip",
        8,
        (
            Edit(
                "proxy/core/playback.py",
                'if not hmac.compare_digest(_bytes(expected), _bytes(link["sig"])):',
                "if not expected:",
            ),
        ),
        (f"{SERVED}test_a_link_that_was_changed_in_any_way_opens_nothing",),
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
        "a key is found without its tenant",
        8,
        (
            Edit(
                "proxy/store/earlier.py",
                """\
        IDEMPOTENCY_KEYS.c.tenant_id == bindparam("tenant_id"),
        IDEMPOTENCY_KEYS.c.mode == bindparam("mode"),
        IDEMPOTENCY_KEYS.c.key == bindparam("key"),
        IDEMPOTENCY_KEYS.c.expires_at > bindparam("now"),
""",
                """\
        IDEMPOTENCY_KEYS.c.mode == bindparam("mode"),
        IDEMPOTENCY_KEYS.c.key == bindparam("key"),
        IDEMPOTENCY_KEYS.c.expires_at > bindparam("now"),
""",
            ),
        ),
        (f"{EARLIER}TestKeys::test_another_tenants_key_is_another_key[sqlite]",),
    ),
    Mutant(
        "an identical request is found without its tenant",
        8,
        (
            Edit(
                "proxy/store/earlier.py",
                'GENERATIONS.c.tenant_id == bindparam("tenant_id"), GENERATIONS.c.mode',
                "GENERATIONS.c.mode",
            ),
        ),
        (
            f"{EARLIER}TestRepeats::test_what_differs_is_another_request[sqlite-another tenant]",
            f"{EARLIER}TestLikes::test_what_differs_is_a_miss[sqlite-another tenant]",
        ),
    ),
    Mutant(
        "a kept answer is found without its tenant",
        8,
        (
            Edit(
                "proxy/store/answers.py",
                "            GENERATIONS.c.tenant_id == tenant_id,\n",
                "",
            ),
        ),
        (f"{STORE}test_answers.py::test_an_answer_is_its_own_tenants_alone[sqlite]",),
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

SHARED = (
    Mutant(
        "who joins an answer hears what comes from then on",
        2,
        (
            Edit(
                "proxy/flows/audience.py",
                "listener.catch_up(self._said, between=self._between)",
                "listener.catch_up((), between=self._between)",
            ),
        ),
        (
            f"{AUDIENCE}test_who_joins_hears_all_from_the_first_byte",
            f"{AUDIENCE}test_who_joins_late_may_have_all_that_was_said_waiting",
        ),
    ),
    Mutant(
        "who comes after an answer was cut hears what was not announced",
        4,
        (Edit("proxy/flows/audience.py", "        if broken:\n", "        if not self._said:\n"),),
        (f"{AUDIENCE}test_an_answer_that_broke_off_looks_broken_to_all_and_is_joined_by_nobody",),
    ),
    Mutant(
        "an answer is kept for joiners without end",
        9,
        (
            Edit(
                "proxy/flows/audience.py",
                "        if self._said_bytes > self._said_bytes_max:\n",
                "        if self._said_bytes_max < 0:\n",
            ),
        ),
        (f"{AUDIENCE}test_what_is_too_long_to_be_kept_can_no_longer_be_joined",),
    ),
)

FOLLOWED = (
    Mutant(
        "a process settles what another has taken over",
        6,
        (
            Edit(
                "proxy/flows/conclude.py",
                "self.held = is_held(tx, self._job.clip_id, self._job.fence)",
                "self.held = bool(tx)",
            ),
        ),
        (
            f"{FOLLOW}test_a_stale_fence_settles_nothing[delivered]",
            f"{FOLLOW}test_a_stale_fence_settles_nothing[failed]",
        ),
    ),
    Mutant(
        "a process that may be taken for dead goes on asking",
        6,
        (
            Edit(
                "proxy/flows/follow.py",
                "        if not self._holds():\n            # Others",
                "        if self._stopped:\n            # Others",
            ),
        ),
        (f"{FOLLOW}test_a_process_that_said_nothing_for_too_long_stops_asking",),
    ),
    Mutant(
        "a job is gone when one gateway does not know it",
        5,
        (
            Edit(
                "proxy/core/pursuit.py",
                "everywhere = all(count >= ABSENCES for count in absences)",
                "everywhere = any(count >= ABSENCES for count in absences)",
            ),
        ),
        (
            f"{PURSUIT}test_the_answer_of_one_gateway_alone_is_never_enough",
            f"{PURSUIT}test_a_job_is_gone_when_every_gateway_has_said_so_three_times",
            f"{FOLLOW}test_one_gateway_that_does_not_know_a_job_does_not_end_it",
        ),
    ),
    Mutant(
        "a job that has completed is a delivery without a link or bytes",
        3,
        (
            Edit(
                "proxy/core/pursuit.py",
                "Deliver(job.url) if job.url else FetchContent()",
                'Deliver(job.url or "")',
            ),
        ),
        (
            f"{PURSUIT}test_a_link_is_a_delivery_and_its_lack_is_not",
            f"{FOLLOW}test_a_job_that_has_completed_is_not_delivered_before_its_link_or_bytes_are"
            "_in_hand",
        ),
    ),
    Mutant(
        "a refusal of our own account ends a job",
        5,
        (
            Edit(
                "proxy/flows/follow.py",
                "            case Wait(seconds):\n",
                """\
            case Wait(seconds) if getattr(met, "refusal", None) in {"auth", "balance"}:
                await conclude(self._house, row, clip.Failed(clip.Reason.VENDOR_ACCOUNT))
            case Wait(seconds):
""",
            ),
        ),
        (f"{FOLLOW}test_trouble_of_whatever_kind_ends_no_job[our key refused]",),
    ),
)

ARCHIVED = (
    Mutant(
        "a clip that breaks off is kept",
        2,
        (
            Edit(
                "proxy/store/incoming.py",
                "if not self._source.complete or self._source.declared not in {None, size}:",
                "if size < 0:",
            ),
        ),
        (f"{ARCHIVE}test_nothing_but_a_whole_clip_is_ever_kept[folder]",),
    ),
    Mutant(
        "readers are told of an end before the clip is in its place",
        2,
        (
            Edit(
                "proxy/store/vault.py",
                """\
                await self._run(self._folder.publish, part, kept)
                incoming.end(kept=True)
""",
                """\
                incoming.end(kept=True)
                await self._run(self._folder.publish, part, kept)
""",
            ),
        ),
        (
            f"{STORE}test_vault.py::"
            "test_who_reads_along_is_told_of_an_end_only_when_the_clip_is_in_its_place[folder]",
        ),
    ),
    Mutant(
        "the bytes of a clip that was deleted while it came in stay",
        3,
        (
            Edit(
                "proxy/flows/archive.py",
                "        elif await house.database.read(lambda tx: strangers(tx, [clip_id])):\n",
                "        elif not strangers:\n",
            ),
        ),
        (f"{ARCHIVE}test_of_a_clip_that_is_deleted_while_it_comes_in_no_bytes_stay[folder]",),
    ),
    Mutant(
        "a process whose claim was taken over deletes what the other has kept",
        3,
        (
            Edit(
                "proxy/flows/archive.py",
                "        elif await house.database.read(lambda tx: strangers(tx, [clip_id])):\n",
                "        else:\n",
            ),
        ),
        (f"{ARCHIVE}test_a_claim_lost_to_another_process_leaves_it_the_bytes[folder]",),
    ),
    Mutant(
        "what a disk that is not mounted does not have is given up for lost",
        3,
        (
            Edit(
                "proxy/flows/own_vault.py",
                "    if await house.vault.mark() != mark:\n",
                "    if not mark:\n",
            ),
        ),
        (f"{EVICT}test_a_vault_that_is_not_there_costs_no_clip",),
    ),
    Mutant(
        "clips are fetched from anywhere, whatever the operator allows",
        9,
        (
            Edit(
                "proxy/app.py",
                "Rules(config.vault.download_hosts, config.vault.download_private)",
                "Rules(private=True)",
            ),
        ),
        (f"{ARCHIVE}test_a_private_address_is_never_dialled",),
    ),
    Mutant(
        "a link may lead to an address inside",
        9,
        (
            Edit(
                "proxy/remote/guard.py",
                "        if not allowed(host, private=rules.private):\n"
                "            return Refused.ADDRESS\n",
                "",
            ),
        ),
        (
            f"{GUARD}test_a_link_that_leads_elsewhere_is_refused_unresolved"
            "[https://[::1]/a-address]",
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
                "",
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
    *SHARED,
    *FOLLOWED,
    *ARCHIVED,
    *SHUTDOWN,
)

UNCHANGED = Mutant(
    "the program as it stands",
    0,
    (),
    tuple(dict.fromkeys(killer for mutant in MUTANTS for killer in mutant.killers)),
)
