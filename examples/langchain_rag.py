"""Answer questions from pictures and notes with LangChain: what is found, of either kind, goes into the prompt.

    python examples/langchain_rag.py

Everything is here: the pictures are drawn, the model that embeds is the bundled one, and the chat model is LangChain's
fake. For a real one put its class in place of `FakeListChatModel`, and `JinaClipEmbeddings()` for jina-clip-v2.
"""

import base64
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import HumanMessage

from core_encoder.nano.scenes import Scene, SceneObject, draw_scene
from jclip_connectors.langchain import JinaClipEmbeddings, JinaClipVectorStore

PICTURES = {
    "flag.png": SceneObject(shape="star", colour="yellow", size="large", place="centre"),
    "stop.png": SceneObject(shape="circle", colour="red", size="large", place="centre"),
    "way.png": SceneObject(shape="arrow", colour="blue", size="large", place="left"),
}
NOTES = ["a red circle means that you must stop", "a blue arrow shows the way", "a yellow star is on our flag"]
QUESTION = "a red circle"


def main() -> None:
    """Index pictures and notes, ask one question, and print what the chat model is shown."""
    with TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in PICTURES]
        for seed, (path, item) in enumerate(zip(paths, PICTURES.values(), strict=True)):
            draw_scene(Scene(objects=(item,)), seed=seed, side_px=144).image.save(path)

        store = JinaClipVectorStore.from_texts(NOTES, JinaClipEmbeddings(model="nano"))
        store.add_images(paths)
        message = prompt(QUESTION, store)
        for part in message.content_blocks:
            print(f"{part['type']:>6}: {part['text'] if part['type'] == 'text' else part.get('id')}")
        print("answer:", FakeListChatModel(responses=["You must stop."]).invoke([message]).text)


def prompt(question: str, store: JinaClipVectorStore) -> HumanMessage:
    """Put the question, the nearest note and the nearest picture into one message."""
    notes = store.as_retriever(search_type="text_to_text", k=1)
    pictures = store.as_retriever(search_type="text_to_image", k=1)
    found = [*notes.invoke(question), *pictures.invoke(question)]
    return HumanMessage([{"type": "text", "text": f"What about {question}? Use these:"}, *map(block, found)])


def block(document: Document) -> dict[str, Any]:
    """The part of a message that shows a document: its text, or the picture itself."""
    if document.metadata.get("modality") != "image":
        return {"type": "text", "text": document.page_content}
    data = base64.b64encode(Path(document.metadata["uri"]).read_bytes()).decode()
    return {"type": "image", "base64": data, "mime_type": "image/png", "id": Path(document.metadata["uri"]).name}


if __name__ == "__main__":
    main()
