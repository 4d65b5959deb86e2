"""Puts the real parts of a validator together. The only place that knows all of them."""

from __future__ import annotations

LOCAL_CUSTOMER = "local"


def build(settings: ValidatorSettings) -> Daemon:
    """A validator by its settings; nothing runs yet. Raises SetupError for what is missing."""
    network = Network.parse(settings.chain.network)
    if settings.seed is not None and not network.is_local:
        raise SetupError("A seed makes secret salts predictable", fix="Remove `seed` outside of a local network")
    folders = Folders(settings.resolved_folder())
    wallet = open_wallet(settings.wallet.name, settings.wallet.hotkey, settings.wallet.path)
    gateway = SdkGateway(
        settings.chain.network, settings.chain.netuid, wallet, timeout_seconds=settings.chain.call_timeout_seconds
    )
    clock = SystemClock()
    ledger = Ledger.open(settings.resolved_ledger_url(), clock)
    keep_local_key(ledger, folders)
    view = ChainView(gateway, clock)
    client = AxonClient(wallet.hotkey, allow_private=network.is_local)
    parts = Parts(settings, folders, gateway, clock, ledger, view, client)
    engine = StepEngine(ledger, view, parts.stages(), owner=f"{gateway.hotkey[:16]}/{os.getpid()}")
    progress = Progress(ledger, view, client)
    return Daemon(
        gateway=gateway,
        view=view,
        engine=engine,
        emission=Emission(ledger, gateway, view, clock),
        progress=progress,
        axon_app=parts.axon_app(wallet.hotkey),
        api_app=parts.api_app(Board(ledger, progress), engine),
        axon=settings.axon,
        api=settings.api,
    )
