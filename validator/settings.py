"""The validator's settings. Rules of pay are not settings: see gradients/scoring/rules.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue, SecretStr, field_validator

from gradients.axon.limits import ServerLimits
from gradients.bases.bases import Family
from gradients.config import DaemonSettings, Place, Section
from gradients.datasets.access import S3Access, SynthesisEndpoint
from gradients.domain.addresses import OF_A_SITE, networks
from gradients.tasks.hours import Reference
from gradients.tasks.registry import LONGEST_REQUEST_HOURS, TYPES
from validator.confinement import Sandbox

MOST_FETCHES = 64  # tasks whose data may be fetched at once, each by a thread


class OfferSettings(Section):
    """How tasks are given out."""

    pool_size: int = Field(default=32, ge=1, le=256, description="miners per task")
    answer_seconds: float = Field(default=5.0, gt=0, le=60, description="time for a miner to answer")
    quiet_seconds: float = Field(
        default=1.5, gt=0, le=60, description="a round of offers ends so long after the last answer that came"
    )
    retry_seconds: float = Field(default=15.0, gt=0, description="rest before a task that nobody took is offered again")
    tries: int = Field(default=12, ge=1, le=12, description="offers of one task before it ends without miners")


class CollectSettings(Section):
    """How submissions are fetched."""

    reveal_seconds: float = Field(default=600.0, gt=0, description="time after the deadline to fetch every submission")
    concurrent: int = Field(default=8, ge=1, le=64, description="miners fetched from at the same time")
    turn_seconds: float = Field(
        default=60.0, gt=0, description="time of one miner to send files before the next one's turn; it goes on later"
    )
    retry_seconds: float = Field(
        default=3.0, gt=0, le=60, description="rest before a miner that did not answer is asked again"
    )


class MeasureSettings(Section):
    """How submissions are measured."""

    threads: int = Field(default=1, ge=1, description="CPU threads of an evaluation worker")
    deadline_seconds: float = Field(
        default=3600.0, gt=0, description="wall time of one entrant, the base's loading included"
    )
    devices: tuple[str, ...] = Field(
        default=(),
        description="GPUs by number, or cpu, once for each worker at a time; by default every GPU, or else the CPU in shares of `threads`; "
        "on a Ray cluster the kind of GPU, as Ray names it, or cpu",
    )
    tasks_at_once: int = Field(default=4, ge=1, description="tasks that share the devices")
    keep_seconds: float = Field(default=300.0, ge=0, description="time that a worker keeps a base without a job")
    racing: bool = Field(
        default=False,
        description="whether entrants stop early of whom no prize can come to depend on more rows; all validators of a subnet alike",
    )


class RaySettings(Section):
    """The cluster that jobs run on where `executor` is ray; Ray's own variables (RAY_AUTH_TOKEN) say who may use it."""

    address: str = Field(default="127.0.0.1:6379", description="HOST:PORT of the head, as `ray start` prints it")
    host: str = Field(
        default="127.0.0.1",
        description="interface on which nodes fetch what jobs read; a private network's, never a public one",
    )
    port: int = Field(default=8092, ge=0, le=65535, description="port of that; 0 takes a free one")
    origin: str | None = Field(default=None, description="URL by which nodes reach it; by default host and port")
    patience_seconds: float = Field(
        default=600.0,
        gt=0,
        description="time that the cluster may be away, or without a fitting node, before a step rests",
    )


class ReadingSettings(Section):
    """What a worker may use that reads a customer's data; who wants more is refused."""

    memory_mebibytes: int = Field(default=4096, ge=256, description="address space, of which Python takes 300 MiB")
    cpu_seconds: int = Field(default=1800, ge=10, description="processor time")
    open_files: int = Field(default=256, ge=64, description="open at the same time")
    tasks_at_once: int = Field(
        default=4,
        ge=1,
        description="tasks that are worked on at the same time once their data are here; two of them read",
    )
    fetches_at_once: int = Field(
        default=16,
        ge=1,
        le=MOST_FETCHES,
        description="tasks that are prepared at the same time, one of each customer's, those included whose data are still fetched; each "
        "may take 2 GiB of disk meanwhile. When all are taken, slow fetches give theirs up to whoever waits",
    )
    most_held_out: int | None = Field(
        default=None,
        ge=16,
        le=10_000,
        description="rows held out of a task at most, where its type can be raced; by default 400. With `racing` few entrants see them all",
    )
    deadline_seconds: float = Field(
        default=7200.0,
        gt=0,
        description="wall time; a worker that runs into it is tried again, for the machine was busy",
    )


class EstimateSettings(Section):
    """How hours are computed for specs that give none; see gradients/tasks/hours.py."""

    reference: Reference = Field(
        default="h100", description="whose speed counts: h100 (by rule, corrected by what is measured), or here"
    )
    threads: int = Field(default=1, ge=1, description="CPU threads of the worker that measures")
    deadline_seconds: float = Field(default=300.0, gt=0, description="wall time of one measurement")


class S3Settings(Section):
    """The object store that rows may come from."""

    endpoint: str | None = Field(default=None, description="URL of the store; by default AWS")
    region: str | None = Field(default=None, description="the store's region, where it has any")
    access_key: str | None = Field(default=None, description="by default the machine's own, as boto3 finds it")
    secret_key: SecretStr | None = Field(default=None, description="goes with access_key")
    buckets: tuple[str, ...] = Field(
        default=(), description="buckets to read with the keys; every other one is read as strangers may"
    )

    def access(self) -> S3Access:
        """What sources work with."""
        secret = self.secret_key.get_secret_value() if self.secret_key else None
        return S3Access(self.endpoint, self.region, self.access_key, secret, frozenset(self.buckets))


class SynthesisSettings(Section):
    """Held-out rows that a language model makes up; off without a URL."""

    url: str | None = Field(
        default=None, description="an OpenAI-compatible endpoint such as http://127.0.0.1:8000/v1; it sees train rows"
    )
    model: str = Field(default="", description="the model's name there")
    key: SecretStr | None = Field(default=None, description="the endpoint's key, where it wants one")
    rows: int = Field(default=32, ge=1, le=400, description="rows to ask for, in addition to the held-out ones")

    def endpoint(self) -> SynthesisEndpoint | None:
        """What makes rows up, or None."""
        key = self.key.get_secret_value() if self.key else None
        return SynthesisEndpoint(self.url, self.model, self.rows, key) if self.url else None


def _known_type(name: str) -> str:
    if name not in TYPES:
        raise ValueError(f"there is no task type '{name}'; choose from {', '.join(TYPES)}")
    return name


TypeName = Annotated[str, AfterValidator(_known_type)]


class PooledModel(Section):
    """A base for synthetic tasks."""

    base: str = Field(min_length=1, max_length=256, description="as customers name bases")
    billions: float = Field(gt=0, description="its weights")
    family: Family = Field(default="language", description="what kind of model it is: language or image")
    types: tuple[TypeName, ...] = Field(default=(), description="task types that it is for; empty: all of its family")


class PooledDataset(Section):
    """Rows for synthetic tasks of one type."""

    type: TypeName = Field(description="a task type")
    dataset: str = Field(description="as customers name data sets, or a file of this machine")
    parameters: dict[str, JsonValue] = Field(default_factory=dict, description="the task type's own part")


class TypeShare(Section):
    """How many of the synthetic tasks are of a type."""

    type: TypeName
    share: float = Field(ge=0)


class SizeShare(Section):
    """How many of the synthetic tasks have a base of a size."""

    up_to_billions: float = Field(gt=0)
    share: float = Field(ge=0)


class HoursShare(Section):
    """How many of the synthetic tasks have a budget."""

    hours: float = Field(gt=0, le=LONGEST_REQUEST_HOURS)
    share: float = Field(gt=0)


class ScheduleSettings(Section):
    """What the validator asks for itself when no customer does; off without `every_hours`."""

    every_hours: float | None = Field(
        default=None, gt=0, le=168, description="one synthetic task at most in so many hours; none without it"
    )
    at_once: int = Field(default=1, ge=1, description="none while so many tasks run, those of customers included")
    types: tuple[TypeShare, ...] = Field(
        default=(), description="shares by type; empty: as the types declare. Types without data sets are passed over"
    )
    sizes: tuple[SizeShare, ...] = Field(
        default=(
            SizeShare(up_to_billions=4, share=0.6),
            SizeShare(up_to_billions=12, share=0.3),
            SizeShare(up_to_billions=71, share=0.1),
        ),
        description="shares by size of the base; sizes without models are passed over",
    )
    hours: tuple[HoursShare, ...] = Field(
        default=(
            HoursShare(hours=0.75, share=0.4),
            HoursShare(hours=1.5, share=0.3),
            HoursShare(hours=3, share=0.2),
            HoursShare(hours=6, share=0.1),
        ),
        min_length=1,
        description="shares by training budget",
    )
    models: tuple[PooledModel, ...] = Field(default=(), description="bases to choose from; see validator/README.md")
    datasets: tuple[PooledDataset, ...] = Field(default=(), description="data sets to choose from")


class EmissionSettings(Section):
    """How weights go to the chain."""

    burn_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="part of every epoch's weight that goes to the subnet's owner, which the chain burns; it costs the subnet TAO",
    )
    spread: float = Field(
        default=0.5, ge=0, le=1, description="part of an epoch over which validators' calls are spread by a hash"
    )
    dry_run: bool = Field(default=False, description="decide and record every epoch's weights, and send none")


class ApiSettings(Section):
    """Where customers are served, and what they may do."""

    host: str = Field(
        default="127.0.0.1", description="interface of the customers' API; put a TLS proxy in front of it"
    )
    port: int = Field(default=8090, ge=0, le=65535, description="port of the customers' API; 0 takes a free one")
    max_upload_bytes: int = Field(default=2 * 1024**3, gt=0, description="largest data set that may be uploaded")
    max_upload_bytes_per_customer: int = Field(
        default=20 * 1024**3, gt=0, description="all uploads of one customer that are kept, together"
    )
    unfinished_upload_hours: float = Field(
        default=24.0, gt=0, description="time that an upload in pieces is kept after its last byte came"
    )
    max_running_tasks_per_customer: int = Field(
        default=64, ge=1, description="tasks of one customer that have not ended; more are refused until one has"
    )
    max_streams_per_customer: int = Field(
        default=16, ge=1, description="tasks that one customer follows at the same time"
    )
    requests_per_minute: int = Field(
        default=600, ge=1, description="requests of one customer, of all its keys together"
    )
    limits_url: str | None = Field(
        default=None,
        description="redis://host:port/0 where several processes serve the API and count requests together",
    )
    trusted_proxies: tuple[str, ...] = Field(
        default=OF_A_SITE,
        description="addresses and networks of TLS proxies, which may say for whom they speak; by default this machine and its site",
    )
    forwarded_header: Literal["x-forwarded-for", "forwarded"] = Field(
        default="x-forwarded-for", description="the header that they write it into; they must overwrite or extend it"
    )
    connections: int | None = Field(
        default=None, ge=1, description="connections in all; by default what the process's descriptors allow"
    )
    connections_per_address: int = Field(default=64, ge=1, description="connections of one address that is not a proxy")
    requests_per_address: int = Field(default=64, ge=1, description="requests that one address has under way at once")
    header_seconds: float = Field(default=5.0, gt=0, description="time for a request's head to come in")
    keep_alive_seconds: float = Field(
        default=150.0, gt=0, description="time that an idle connection stays; longer than the proxy keeps it"
    )
    body_seconds: float = Field(default=30.0, gt=0, description="time for a body to come in")
    upload_bytes_per_second: int = Field(
        default=16_384, ge=1, description="speed below which an upload is ended, once body_seconds are over"
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        networks(texts)
        return texts

    def limits(self) -> ServerLimits:
        """What its server puts up with."""
        return ServerLimits(
            header_seconds=self.header_seconds,
            keep_alive_seconds=self.keep_alive_seconds,
            connections_per_address=self.connections_per_address,
            connections=self.connections,
            proxies=self.trusted_proxies,
        )


class PagesSettings(Section):
    """What people see in a browser, at the API's address."""

    serve: bool = Field(default=True, description="whether there are pages beside the API")
    most_tried_parameters: int = Field(
        default=2_000_000_000,
        ge=0,
        description="largest base whose models customers may try on a page, on the CPU; 0: none",
    )
    try_seconds: float = Field(default=120.0, gt=0, description="time for one model's answer")


class KeepSettings(Section):
    """How long things are kept. What an unfinished task needs is never dropped."""

    models_hours: float = Field(
        default=48.0, ge=1, description="models that did not win, rows and scratch space of a task, after it has ended"
    )
    record_days: float = Field(
        default=30.0, ge=0, description="rows and models of tasks that are not private, which auditors download"
    )
    winner_days: float = Field(default=90.0, ge=1, description="a task's best model, for its customer")
    uploads_hours: float = Field(default=168.0, ge=1, description="uploads, after a spec has named them last")
    most_bytes: int | None = Field(
        default=None,
        gt=0,
        description="blobs in all; above it private tasks' rows and models that did not win go an hour after the end",
    )
    caches_most_bytes: int | None = Field(
        default=None,
        gt=0,
        description="base models in the cache, by default half of its disk; above it go those unused for six hours, the longest first",
    )


class ValidatorSettings(DaemonSettings):
    """Everything a validator can be told."""

    folder: Place = Field(default=Path("~/.gradients/validator"), description="ledger, blobs and job folders")
    ledger_url: str | None = Field(default=None, description="SQLAlchemy URL; by default SQLite in the folder")
    caches: Place | None = Field(
        default=None, description="converted and downloaded base models; by default the user's cache"
    )
    seed: int | None = Field(
        default=None, description="makes every salt predictable; refused on any network but a local one"
    )
    allow_local_paths: bool = Field(
        default=False, description="customers may name files and folders of this machine; for local networks"
    )
    sandbox: Sandbox = Field(
        default="on",
        description="on: workers on strangers' bytes see nothing else of this machine; off: they see all, where bubblewrap cannot work",
    )
    executor: Literal["local", "ray"] = Field(
        default="local", description="where jobs run: on this machine, or on a Ray cluster (section ray)"
    )
    ray: RaySettings = RaySettings()
    offer: OfferSettings = OfferSettings()
    collect: CollectSettings = CollectSettings()
    reading: ReadingSettings = ReadingSettings()
    measure: MeasureSettings = MeasureSettings()
    estimate: EstimateSettings = EstimateSettings()
    s3: S3Settings = S3Settings()
    synthesis: SynthesisSettings = SynthesisSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    emission: EmissionSettings = EmissionSettings()
    api: ApiSettings = ApiSettings()
    pages: PagesSettings = PagesSettings()
    keep: KeepSettings = KeepSettings()

    def resolved_ledger_url(self) -> str:
        """The ledger's URL."""
        return self.ledger_url or f"sqlite:///{self.folder}/ledger.db"
