"""cluster: an index in shards, on one machine or many."""

from gossamer.retrieval.cluster.cluster import ClusterHits, ClusterIndex
from gossamer.retrieval.cluster.on_ray import OnRay
from gossamer.retrieval.cluster.workers import Threads, Workers

__all__ = ["ClusterHits", "ClusterIndex", "OnRay", "Threads", "Workers"]
