"""The components that embed images."""

from pathlib import Path
from typing import Any

from haystack import Document, component
from haystack.dataclasses import ByteStream, ImageContent
from haystack.utils import Secret

from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.haystack.embedding import PATH_FIELD, SOURCE, embed_documents, embed_image, image_of
from jclip_connectors.haystack.homes import EMBEDDERS
from jclip_connectors.haystack.model_component import ModelComponent
from jclip_connectors.haystack.models import Model, ModelPlace
from jclip_connectors.store_kit.flows import Flow
from jclip_connectors.store_kit.validation import check_count


@component
class JinaClipImageEmbedder(ModelComponent):
    """Embeds an image, to search for texts or for images that are like it."""

    __module__ = EMBEDDERS

    def __init__(
        self,
        config: EmbeddingConfig | None = None,
        *,
        device: str | None = None,
        url: str | None = None,
        api_key: Secret | None = None,
    ) -> None:
        """Check the options; the model is loaded by `warm_up`, or by the first run.

        Args:
            config: which model makes the vectors; the arguments are as for `JinaClipTextEmbedder`.
            device: where a model in this process runs.
            url: the URL of a server.
            api_key: the server's key.

        Raises:
            ConfigError: an option has a bad value, or no effect beside another.
        """
        self.model = Model(ModelPlace.of(config, device=device, url=url, api_key=api_key))

    @component.output_types(embedding=list[float], meta=dict[str, Any])
    def run(self, image: str | Path | ByteStream | ImageContent) -> dict[str, Any]:
        """Embed an image.

        Args:
            image: a path, a data URI, a ByteStream or an ImageContent. URLs are not downloaded, and PDFs are refused.

        Returns:
            `embedding`, E numbers, and `meta` with the name of the model.

        Raises:
            EmbedInputError: the image cannot be read.
        """
        return {"embedding": self.model.run(embed_image(image)).tolist(), "meta": {"model": self.config.model}}

    @component.output_types(embedding=list[float], meta=dict[str, Any])
    async def run_async(self, image: str | Path | ByteStream | ImageContent) -> dict[str, Any]:
        """Do what `run` does with `image`; the event loop goes on meanwhile."""
        row = await self.model.run_async(embed_image(image))
        return {"embedding": row.tolist(), "meta": {"model": self.config.model}}


@component
class JinaClipImageDocumentEmbedder(ModelComponent):
    """Embeds the images of documents, as `ImageFileToDocument(store_full_path=True)` makes them.

    That component keeps only the name of a file unless it has `store_full_path=True`: then the file is not found from
    another folder, and two files of one name are one document.
    """

    __module__ = EMBEDDERS

    def __init__(
        self,
        config: EmbeddingConfig | None = None,
        *,
        device: str | None = None,
        url: str | None = None,
        api_key: Secret | None = None,
        batch_size: int = 32,
        file_path_meta_field: str = "file_path",
        root_path: str | None = None,
        raise_on_failure: bool = True,
    ) -> None:
        """Check the options; the model is loaded by `warm_up`, or by the first run.

        Args:
            config: which model makes the vectors; this and the next three are as for `JinaClipTextEmbedder`.
            device: where a model in this process runs.
            url: the URL of a server.
            api_key: the server's key.
            batch_size: the number of documents that are embedded at a time.
            file_path_meta_field: the key of the metadata that has the path of the image.
            root_path: the folder of the paths that do not begin at the root; `None` is the current folder.
            raise_on_failure: whether a document that cannot be embedded raises; else it is logged, and comes back as it
                was.

        Raises:
            ConfigError: an option has a bad value, or no effect beside another.
            EmbedInputError: `batch_size` is no count.
        """
        check_count(batch_size, name="batch_size")
        self.model = Model(ModelPlace.of(config, device=device, url=url, api_key=api_key))
        self.batch_size = batch_size
        self.file_path_meta_field = file_path_meta_field
        self.root_path = root_path
        self.raise_on_failure = raise_on_failure

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Embed the images of documents: the `blob` of a document, or the file that its metadata names.

        Args:
            documents: the documents; they are not changed.

        Returns:
            `documents`, copies with `embedding` set and `embedding_source` in the metadata, in order, and `meta` with
            the name of the model.

        Raises:
            TypeError: `documents` is not a list of documents.
            DocumentsNotEmbeddedError: some images cannot be read; it is a RuntimeError that names their ids.
        """
        return {"documents": self.model.run(self._embed(documents)), "meta": {"model": self.config.model}}

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    async def run_async(self, documents: list[Document]) -> dict[str, Any]:
        """Do what `run` does with `documents`; the event loop goes on meanwhile."""
        made = await self.model.run_async(self._embed(documents))
        return {"documents": made, "meta": {"model": self.config.model}}

    def _options(self) -> dict[str, Any]:
        return {
            "batch_size": self.batch_size,
            "file_path_meta_field": self.file_path_meta_field,
            "root_path": self.root_path,
            "raise_on_failure": self.raise_on_failure,
        }

    def _embed(self, documents: object) -> Flow[list[Document]]:
        root = None if self.root_path is None else Path(self.root_path)
        return embed_documents(
            documents,
            lambda document: image_of(document, self.file_path_meta_field, root),
            images=True,
            batch_size=self.batch_size,
            marks={SOURCE: {"type": "image", PATH_FIELD: self.file_path_meta_field}},
            raise_on_failure=self.raise_on_failure,
        )
