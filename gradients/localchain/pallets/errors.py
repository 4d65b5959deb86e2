"""The errors that this chain raises, with their numbers on the real one (a test compares them with the SDK's table)."""

from __future__ import annotations

from gradients.localchain.pallets.declare import errors

SUBTENSOR = errors(
    7,
    {
        "InvalidIpType": 1,
        "InvalidIpAddress": 2,
        "InvalidPort": 3,
        "HotKeyNotRegisteredInSubNet": 4,
        "HotKeyAccountNotExists": 5,
        "HotKeyNotRegisteredInNetwork": 6,
        "NonAssociatedColdKey": 7,
        "NotEnoughStakeToWithdraw": 9,
        "NotEnoughStakeToSetWeights": 10,
        "NotEnoughBalanceToStake": 12,
        "NeuronNoValidatorPermit": 15,
        "WeightVecNotEqualSize": 16,
        "DuplicateUids": 17,
        "UidVecContainInvalidOne": 18,
        "WeightVecLengthIsLow": 19,
        "HotKeyAlreadyRegisteredInSubNet": 21,
        "MaxWeightExceeded": 27,
        "SettingWeightsTooFast": 29,
        "IncorrectWeightVersionKey": 30,
        "ServingRateLimitExceeded": 31,
        "UidsLengthExceedUidsInSubNet": 32,
        "SubNetRegistrationDisabled": 37,
        "RegistrationNotPermittedOnRootSubnet": 42,
        "CanNotSetRootNetworkWeights": 47,
        "NoNeuronIdAvailable": 48,
        "CommitRevealEnabled": 53,
        "CommitRevealDisabled": 54,
        "LiquidAlphaDisabled": 55,
        "AlphaHighTooLow": 56,
        "AlphaLowOutOfRange": 57,
        "MechanismDoesNotExist": 74,
        "SubnetNotExists": 76,
        "TooManyUnrevealedCommits": 77,
        "CommittingWeightsTooFast": 81,
        "AmountTooLow": 82,
        "SlippageTooHigh": 84,
        "TransferDisallowed": 85,
        "FirstEmissionBlockNumberAlreadySet": 88,
        "SubtokenDisabled": 94,
        "SameNetuid": 97,
        "IncorrectCommitRevealVersion": 111,
        "InvalidRevealRound": 112,
        "RevealPeriodTooLarge": 113,
        "RevealPeriodTooSmall": 114,
        "CannotAffordLockCost": 117,
        "TempoOutOfBounds": 144,
        "ActivityCutoffFactorMilliOutOfBounds": 145,
        "StartCallNotReady": 151,
    },
)

COMMITMENTS = errors(
    18,
    {
        "TooManyFieldsInCommitmentInfo": 0,
        "AccountNotAllowedCommit": 1,
        "SpaceLimitExceeded": 2,
    },
)

ADMIN_UTILS = errors(
    19,
    {
        "SubnetDoesNotExist": 0,
        "MaxAllowedUIdsLessThanCurrentUIds": 2,
        "BondsMovingAverageMaxReached": 3,
        "ValueNotInBounds": 5,
    },
)
