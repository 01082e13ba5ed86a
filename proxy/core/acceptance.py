"""What a gateway's answer to a new video job means: accepted, ended at once, or nobody can say.

The status of the answer is a success, which proves nothing (decision 6): only a job's id makes it
one that can be asked for, and only a link one that is delivered.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy.core import clip
from proxy.core.failure import Reason, classify
from proxy.core.job import Garbled, Job, JobState, read_job
from proxy.core.refusal import Refusal, read_refusal


@dataclass(frozen=True, slots=True)
class Accepted:
    """The job is the vendor's, who calls it `id`, and has not ended as far as the answer tells.

    `running` when it was begun, `percent` of it (0 to 100) done.
    """

    id: str
    running: bool = False
    percent: int = 0


@dataclass(frozen=True, slots=True)
class Over:
    """The answer itself tells how the job ended, in the vendor's `words`.

    `refusal` is set where there was no job at all, but an error under a status of success; a
    sibling of the vendor bills such answers.
    """

    news: clip.Delivered | clip.Failed
    id: str | None = None
    words: str = ""
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class Untold:
    """The job may run, under a name that nobody told."""

    words: str = ""


def read_acceptance(status: int, content_type: str, body: bytes) -> Accepted | Over | Untold:
    """What the answer to a submission says; total over any bytes, also those that broke off.

    `status` is a 2xx. A JSON object says where it ends, so one that was read is whole, whatever
    became of the connection; of one that broke off the id is believed and nothing else.
    """
    said = read_job(body, status)
    match said:
        case Job(state=JobState.FAILED):
            failed = clip.Failed(said.reason or Reason.VENDOR_ERROR)
            return Over(failed, said.id, said.words)
        case Job(url=str(link)):
            return Over(clip.Delivered(link), said.id)
        case Job(id=str(job_id)):
            # Also one that is completed without a link: its bytes have still to be asked for.
            return Accepted(job_id, said.state is not JobState.QUEUED, said.percent)
        case Garbled(id=str(job_id)):
            return Accepted(job_id)
        case Garbled():
            refusal = read_refusal(status, content_type, body)
            if refusal.recognised:
                failed = clip.Failed(classify(f"{refusal.code} {refusal.message}"))
                return Over(failed, None, said.words, refusal)
    return Untold("" if isinstance(said, Job) else said.words)
