"""A request for a video as the vendor gets it: the model, the prompt, the images, nothing else.

Images always go as a form whose files are all named `input_reference`, start frame first: the
vendor's gateway keeps the order of parts within one name only (wire facts, 4.2).
"""

from __future__ import annotations

import hashlib
import json

from proxy.core.video_request import VideoRequest


def submission(request: VideoRequest) -> tuple[str, bytes]:
    """The content type and the body in which `request` is sent; JSON where it has no image.

    The same request makes the same bytes: the boundary is a digest of what it parts, so nothing
    in there can hold it.
    """
    if not request.images:
        fields = {"model": request.model.name, "prompt": request.prompt}
        return "application/json", json.dumps(fields, ensure_ascii=False).encode()
    parts = [
        (b'"model"', request.model.name.encode()),
        (b'"prompt"', request.prompt.encode()),
    ]
    for number, image in enumerate(request.images, 1):
        # Files are named by us: the caller's names could tell about the team, or break the header.
        suffix = image.type.partition("/")[2]
        head = f'"input_reference"; filename="frame{number}.{suffix}"\r\nContent-Type: {image.type}'
        parts.append((head.encode(), image.data))
    digest = hashlib.sha256()
    for _, data in parts:
        digest.update(len(data).to_bytes(8, "big") + data)
    boundary = b"clipmeter-" + digest.hexdigest()[:40].encode()
    body = b"".join(
        b"--%b\r\nContent-Disposition: form-data; name=%b\r\n\r\n%b\r\n" % (boundary, head, data)
        for head, data in parts
    )
    return f"multipart/form-data; boundary={boundary.decode()}", body + b"--%b--\r\n" % boundary
