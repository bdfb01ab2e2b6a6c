"""What assistants know: documents with their chunks, terms and vectors, memories; catalogues, transcripts; searches."""

from db.models.knowledge.catalogue import Product as Product
from db.models.knowledge.catalogue import ProductChunk as ProductChunk
from db.models.knowledge.catalogue import TranscriptSegment as TranscriptSegment
from db.models.knowledge.collections import Collection as Collection
from db.models.knowledge.documents import Chunk as Chunk
from db.models.knowledge.documents import Document as Document
from db.models.knowledge.documents import DocumentText as DocumentText
from db.models.knowledge.memories import Memory as Memory
from db.models.knowledge.memories import MemorySource as MemorySource
from db.models.knowledge.search import ChunkTerms as ChunkTerms
from db.models.knowledge.search import RagQuery as RagQuery
from db.models.knowledge.search import TermChange as TermChange
from db.models.knowledge.search import TermStatistic as TermStatistic
from db.models.knowledge.search import TermTotal as TermTotal
from db.models.knowledge.spaces import ChunkVector as ChunkVector
from db.models.knowledge.spaces import EmbeddingModel as EmbeddingModel
from db.models.knowledge.spaces import ProductChunkVector as ProductChunkVector
from db.models.knowledge.spaces import Space as Space
from db.models.knowledge.spaces import TranscriptSegmentVector as TranscriptSegmentVector
