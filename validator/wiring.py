"""Puts the real parts of a validator together. The only place that knows all of them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from gradients.axon.auth import MetagraphPolicy
from gradients.axon.client import AxonClient
from gradients.axon.server import signed_app
from gradients.chain.network import Network
from gradients.chain.sdk import SdkGateway
from gradients.chain.view import ChainView
from gradients.chain.wallet import open_wallet
from gradients.clock import SystemClock
from gradients.domain.task import TaskState
from gradients.execution.process import ProcessExecutor
from gradients.repo.bases import BaseModels
from gradients.repo.store import ContentStore
from validator.api.app import api_app
from validator.api.uploads import Uploads
from validator.axon_app import add_data_route
from validator.board import Board
from validator.daemon import Daemon
from validator.emission import Emission
from validator.engine import StepEngine
from validator.folders import Folders
from validator.intake import Intake
from validator.ledger import Ledger
from validator.progress import Progress
from validator.settings import ValidatorSettings
from validator.stages.collect import CollectStage
from validator.stages.measure import MeasureStage
from validator.stages.offer import OfferStage
from validator.stages.prepare import PrepareStage
from validator.stages.score import ScoreStage

LOCAL_CUSTOMER = "local"
