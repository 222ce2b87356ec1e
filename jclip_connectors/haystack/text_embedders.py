"""The components that embed texts."""

from typing import Any

from haystack import Document, component
from haystack.utils import Secret

from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.haystack.embedding import embed_documents, embed_query, text_of
from jclip_connectors.haystack.homes import EMBEDDERS
from jclip_connectors.haystack.model_component import ModelComponent
from jclip_connectors.haystack.models import Model, ModelPlace
from jclip_connectors.store_kit.flows import Flow
from jclip_connectors.store_kit.validation import check_count


@component
class JinaClipTextEmbedder(ModelComponent):
    """Embeds a text as a query, to search for texts or for images.

    The model runs in this process, where all components share it, or behind a server with Jina's protocol.
    """

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
            config: which model makes the vectors, and with which options; `None` is `EmbeddingConfig()`.
            device: where a model in this process runs: "cpu", "cuda", ...; `None` prefers CUDA.
            url: the URL of a server without `/embeddings`, like "http://localhost:8080/v1"; `None` runs the model in
                this process. What a server must be is said at `RemoteEmbedder`.
            api_key: the server's key, as `Secret.from_env_var("...")`; `None` sends none, or for the hosted API reads
                JINA_API_KEY.

        Raises:
            ConfigError: an option has a bad value, or no effect beside another.
        """
        self.model = Model(ModelPlace.of(config, device=device, url=url, api_key=api_key))

    @component.output_types(embedding=list[float], meta=dict[str, Any])
    def run(self, text: str) -> dict[str, Any]:
        """Embed a query, with the model's query prefix if it has one.

        Args:
            text: the query.

        Returns:
            `embedding`, E numbers, and `meta` with the name of the model.

        Raises:
            EmbedInputError: `text` is not a string, or cannot be embedded.
        """
        return {"embedding": self.model.run(embed_query(text)).tolist(), "meta": {"model": self.config.model}}

    @component.output_types(embedding=list[float], meta=dict[str, Any])
    async def run_async(self, text: str) -> dict[str, Any]:
        """Do what `run` does with `text`; the event loop goes on meanwhile."""
        row = await self.model.run_async(embed_query(text))
        return {"embedding": row.tolist(), "meta": {"model": self.config.model}}


@component
class JinaClipDocumentEmbedder(ModelComponent):
    """Embeds the texts of documents; images are embedded by `JinaClipImageDocumentEmbedder`."""

    __module__ = EMBEDDERS

    def __init__(
        self,
        config: EmbeddingConfig | None = None,
        *,
        device: str | None = None,
        url: str | None = None,
        api_key: Secret | None = None,
        batch_size: int = 32,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
        raise_on_failure: bool = True,
    ) -> None:
        """Check the options; the model is loaded by `warm_up`, or by the first run.

        Args:
            config: which model makes the vectors; this and the next three are as for `JinaClipTextEmbedder`.
            device: where a model in this process runs.
            url: the URL of a server.
            api_key: the server's key.
            batch_size: the number of documents that are embedded at a time.
            meta_fields_to_embed: keys of the metadata whose values are embedded before the content.
            embedding_separator: stands between these values and the content.
            raise_on_failure: whether a document that cannot be embedded raises; else it is logged, and comes back as it
                was.

        Raises:
            ConfigError: an option has a bad value, or no effect beside another.
            EmbedInputError: `batch_size` is no count.
        """
        check_count(batch_size, name="batch_size")
        self.model = Model(ModelPlace.of(config, device=device, url=url, api_key=api_key))
        self.batch_size = batch_size
        self.meta_fields_to_embed = [] if meta_fields_to_embed is None else list(meta_fields_to_embed)
        self.embedding_separator = embedding_separator
        self.raise_on_failure = raise_on_failure

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Embed the texts of documents.

        Args:
            documents: the documents; they are not changed.

        Returns:
            `documents`, copies with `embedding` set, in order, and `meta` with the name of the model.

        Raises:
            TypeError: `documents` is not a list of documents.
            DocumentsNotEmbeddedError: some documents cannot be embedded; it is a RuntimeError that names their ids.
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
            "meta_fields_to_embed": self.meta_fields_to_embed,
            "embedding_separator": self.embedding_separator,
            "raise_on_failure": self.raise_on_failure,
        }

    def _embed(self, documents: object) -> Flow[list[Document]]:
        return embed_documents(
            documents,
            lambda document: text_of(document, self.meta_fields_to_embed, self.embedding_separator),
            images=False,
            batch_size=self.batch_size,
            marks={},
            raise_on_failure=self.raise_on_failure,
        )
