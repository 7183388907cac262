"""Content-addressed bytes, and the HTTP side over which they come and go."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from aiohttp import web
from clouds.modal.rpc import Caller, new_id
from modal_proto import api_pb2


class Blobs:
    """Files and blocks by digest, blobs by id; uploads and downloads."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)
        self.url = ""
        self.received_bytes = 0
        self.refuse_downloads = 0

    def path(self, name: str) -> Path:
        """Where a blob's bytes are, or would be."""
        return self._root / name

    def has(self, name: str) -> bool:
        """Whether its bytes are here."""
        return self.path(name).exists()

    def put(self, name: str, content: bytes) -> None:
        """Take in bytes that arrived."""
        self.received_bytes += len(content)
        self.path(name).write_bytes(content)

    # ── RPCs ──────────────────────────────────────────────────────────────────────────────────

    async def BlobCreate(
        self, request: api_pb2.BlobCreateRequest, _: Caller
    ) -> api_pb2.BlobCreateResponse:
        """A place to upload to; the newer form and the older one of the answer."""
        name = new_id("bl")
        url = f"{self.url}/blob/{name}"
        return api_pb2.BlobCreateResponse(
            blob_id=name,
            upload_url=url,
            blob_ids=[name],
            upload_urls=api_pb2.UploadUrlList(items=[url]),
        )

    async def BlobGet(self, request: api_pb2.BlobGetRequest, _: Caller) -> api_pb2.BlobGetResponse:
        """Where to download from."""
        return api_pb2.BlobGetResponse(download_url=f"{self.url}/blob/{request.blob_id}")

    async def MountPutFile(
        self, request: api_pb2.MountPutFileRequest, _: Caller
    ) -> api_pb2.MountPutFileResponse:
        """Take in a source file, or say whether it is here."""
        which = request.WhichOneof("data_oneof")
        if which == "data":
            self.put(request.sha256_hex, request.data)
        elif which == "data_blob_id":
            self.put(request.sha256_hex, self.path(request.data_blob_id).read_bytes())
        return api_pb2.MountPutFileResponse(exists=self.has(request.sha256_hex))

    async def MountBatchedCheckExistence(
        self, request: api_pb2.MountBatchedCheckExistenceRequest, _: Caller
    ) -> api_pb2.MountBatchedCheckExistenceResponse:
        """Which source files are to be sent."""
        missing = [digest for digest in request.sha256_hex_hashes if not self.has(digest)]
        return api_pb2.MountBatchedCheckExistenceResponse(missing_sha256_hex_hashes=missing)

    # ── HTTP ──────────────────────────────────────────────────────────────────────────────────

    def routes(self) -> list[web.RouteDef]:
        """The addresses that BlobCreate and the volumes hand out."""
        return [
            web.put("/{kind:blob|block}/{name}", self._take),
            web.get("/blob/{name}", self._give),
        ]

    async def _take(self, request: web.Request) -> web.Response:
        content = await request.read()
        name = request.match_info["name"]
        if request.match_info["kind"] == "block" and hashlib.sha256(content).hexdigest() != name:
            return web.Response(status=400, text="the block's digest is another")
        self.put(name, content)
        tag = hashlib.md5(content, usedforsecurity=False).hexdigest()
        return web.Response(text="ok", headers={"ETag": f'"{tag}"'})

    async def _give(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(self.path(request.match_info["name"]))


def digest_header(content: bytes) -> dict[str, str]:
    """What a download says of itself (RFC 9530)."""
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
    return {"Repr-Digest": f"sha-256=:{digest}:"}
