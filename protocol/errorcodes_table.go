package protocol

// The error codes of Kafka 4.4, by Kafka's names. Part of the wire format.
const (
	// ErrNone is success.
	ErrNone ErrorCode = 0
	// ErrUnknownServerError is UNKNOWN_SERVER_ERROR.
	ErrUnknownServerError ErrorCode = -1
	// ErrOffsetOutOfRange is OFFSET_OUT_OF_RANGE.
	ErrOffsetOutOfRange ErrorCode = 1
	// ErrCorruptMessage is CORRUPT_MESSAGE.
	ErrCorruptMessage ErrorCode = 2
	// ErrUnknownTopicOrPartition is UNKNOWN_TOPIC_OR_PARTITION.
	ErrUnknownTopicOrPartition ErrorCode = 3
	// ErrInvalidFetchSize is INVALID_FETCH_SIZE.
	ErrInvalidFetchSize ErrorCode = 4
	// ErrLeaderNotAvailable is LEADER_NOT_AVAILABLE.
	ErrLeaderNotAvailable ErrorCode = 5
	// ErrNotLeaderOrFollower is NOT_LEADER_OR_FOLLOWER.
	ErrNotLeaderOrFollower ErrorCode = 6
	// ErrRequestTimedOut is REQUEST_TIMED_OUT.
	ErrRequestTimedOut ErrorCode = 7
	// ErrBrokerNotAvailable is BROKER_NOT_AVAILABLE.
	ErrBrokerNotAvailable ErrorCode = 8
	// ErrReplicaNotAvailable is REPLICA_NOT_AVAILABLE.
	ErrReplicaNotAvailable ErrorCode = 9
	// ErrMessageTooLarge is MESSAGE_TOO_LARGE.
	ErrMessageTooLarge ErrorCode = 10
	// ErrStaleControllerEpoch is STALE_CONTROLLER_EPOCH.
	ErrStaleControllerEpoch ErrorCode = 11
	// ErrOffsetMetadataTooLarge is OFFSET_METADATA_TOO_LARGE.
	ErrOffsetMetadataTooLarge ErrorCode = 12
	// ErrNetworkException is NETWORK_EXCEPTION.
	ErrNetworkException ErrorCode = 13
	// ErrCoordinatorLoadInProgress is COORDINATOR_LOAD_IN_PROGRESS.
	ErrCoordinatorLoadInProgress ErrorCode = 14
	// ErrCoordinatorNotAvailable is COORDINATOR_NOT_AVAILABLE.
	ErrCoordinatorNotAvailable ErrorCode = 15
	// ErrNotCoordinator is NOT_COORDINATOR.
	ErrNotCoordinator ErrorCode = 16
	// ErrInvalidTopicException is INVALID_TOPIC_EXCEPTION.
	ErrInvalidTopicException ErrorCode = 17
	// ErrRecordListTooLarge is RECORD_LIST_TOO_LARGE.
	ErrRecordListTooLarge ErrorCode = 18
	// ErrNotEnoughReplicas is NOT_ENOUGH_REPLICAS.
	ErrNotEnoughReplicas ErrorCode = 19
	// ErrNotEnoughReplicasAfterAppend is NOT_ENOUGH_REPLICAS_AFTER_APPEND.
	ErrNotEnoughReplicasAfterAppend ErrorCode = 20
	// ErrInvalidRequiredAcks is INVALID_REQUIRED_ACKS.
	ErrInvalidRequiredAcks ErrorCode = 21
	// ErrIllegalGeneration is ILLEGAL_GENERATION.
	ErrIllegalGeneration ErrorCode = 22
	// ErrInconsistentGroupProtocol is INCONSISTENT_GROUP_PROTOCOL.
	ErrInconsistentGroupProtocol ErrorCode = 23
	// ErrInvalidGroupID is INVALID_GROUP_ID.
	ErrInvalidGroupID ErrorCode = 24
	// ErrUnknownMemberID is UNKNOWN_MEMBER_ID.
	ErrUnknownMemberID ErrorCode = 25
	// ErrInvalidSessionTimeout is INVALID_SESSION_TIMEOUT.
	ErrInvalidSessionTimeout ErrorCode = 26
	// ErrRebalanceInProgress is REBALANCE_IN_PROGRESS.
	ErrRebalanceInProgress ErrorCode = 27
	// ErrInvalidCommitOffsetSize is INVALID_COMMIT_OFFSET_SIZE.
	ErrInvalidCommitOffsetSize ErrorCode = 28
	// ErrTopicAuthorizationFailed is TOPIC_AUTHORIZATION_FAILED.
	ErrTopicAuthorizationFailed ErrorCode = 29
	// ErrGroupAuthorizationFailed is GROUP_AUTHORIZATION_FAILED.
	ErrGroupAuthorizationFailed ErrorCode = 30
	// ErrClusterAuthorizationFailed is CLUSTER_AUTHORIZATION_FAILED.
	ErrClusterAuthorizationFailed ErrorCode = 31
	// ErrInvalidTimestamp is INVALID_TIMESTAMP.
	ErrInvalidTimestamp ErrorCode = 32
	// ErrUnsupportedSaslMechanism is UNSUPPORTED_SASL_MECHANISM.
	ErrUnsupportedSaslMechanism ErrorCode = 33
	// ErrIllegalSaslState is ILLEGAL_SASL_STATE.
	ErrIllegalSaslState ErrorCode = 34
	// ErrUnsupportedVersion is UNSUPPORTED_VERSION.
	ErrUnsupportedVersion ErrorCode = 35
	// ErrTopicAlreadyExists is TOPIC_ALREADY_EXISTS.
	ErrTopicAlreadyExists ErrorCode = 36
	// ErrInvalidPartitions is INVALID_PARTITIONS.
	ErrInvalidPartitions ErrorCode = 37
	// ErrInvalidReplicationFactor is INVALID_REPLICATION_FACTOR.
	ErrInvalidReplicationFactor ErrorCode = 38
	// ErrInvalidReplicaAssignment is INVALID_REPLICA_ASSIGNMENT.
	ErrInvalidReplicaAssignment ErrorCode = 39
	// ErrInvalidConfig is INVALID_CONFIG.
	ErrInvalidConfig ErrorCode = 40
	// ErrNotController is NOT_CONTROLLER.
	ErrNotController ErrorCode = 41
	// ErrInvalidRequest is INVALID_REQUEST.
	ErrInvalidRequest ErrorCode = 42
	// ErrUnsupportedForMessageFormat is UNSUPPORTED_FOR_MESSAGE_FORMAT.
	ErrUnsupportedForMessageFormat ErrorCode = 43
	// ErrPolicyViolation is POLICY_VIOLATION.
	ErrPolicyViolation ErrorCode = 44
	// ErrOutOfOrderSequenceNumber is OUT_OF_ORDER_SEQUENCE_NUMBER.
	ErrOutOfOrderSequenceNumber ErrorCode = 45
	// ErrDuplicateSequenceNumber is DUPLICATE_SEQUENCE_NUMBER.
	ErrDuplicateSequenceNumber ErrorCode = 46
	// ErrInvalidProducerEpoch is INVALID_PRODUCER_EPOCH.
	ErrInvalidProducerEpoch ErrorCode = 47
	// ErrInvalidTxnState is INVALID_TXN_STATE.
	ErrInvalidTxnState ErrorCode = 48
	// ErrInvalidProducerIDMapping is INVALID_PRODUCER_ID_MAPPING.
	ErrInvalidProducerIDMapping ErrorCode = 49
	// ErrInvalidTransactionTimeout is INVALID_TRANSACTION_TIMEOUT.
	ErrInvalidTransactionTimeout ErrorCode = 50
	// ErrConcurrentTransactions is CONCURRENT_TRANSACTIONS.
	ErrConcurrentTransactions ErrorCode = 51
	// ErrTransactionCoordinatorFenced is TRANSACTION_COORDINATOR_FENCED.
	ErrTransactionCoordinatorFenced ErrorCode = 52
	// ErrTransactionalIDAuthorizationFailed is TRANSACTIONAL_ID_AUTHORIZATION_FAILED.
	ErrTransactionalIDAuthorizationFailed ErrorCode = 53
	// ErrSecurityDisabled is SECURITY_DISABLED.
	ErrSecurityDisabled ErrorCode = 54
	// ErrOperationNotAttempted is OPERATION_NOT_ATTEMPTED.
	ErrOperationNotAttempted ErrorCode = 55
	// ErrKafkaStorageError is KAFKA_STORAGE_ERROR.
	ErrKafkaStorageError ErrorCode = 56
	// ErrLogDirNotFound is LOG_DIR_NOT_FOUND.
	ErrLogDirNotFound ErrorCode = 57
	// ErrSaslAuthenticationFailed is SASL_AUTHENTICATION_FAILED.
	ErrSaslAuthenticationFailed ErrorCode = 58
	// ErrUnknownProducerID is UNKNOWN_PRODUCER_ID.
	ErrUnknownProducerID ErrorCode = 59
	// ErrReassignmentInProgress is REASSIGNMENT_IN_PROGRESS.
	ErrReassignmentInProgress ErrorCode = 60
	// ErrDelegationTokenAuthDisabled is DELEGATION_TOKEN_AUTH_DISABLED.
	ErrDelegationTokenAuthDisabled ErrorCode = 61
	// ErrDelegationTokenNotFound is DELEGATION_TOKEN_NOT_FOUND.
	ErrDelegationTokenNotFound ErrorCode = 62
	// ErrDelegationTokenOwnerMismatch is DELEGATION_TOKEN_OWNER_MISMATCH.
	ErrDelegationTokenOwnerMismatch ErrorCode = 63
	// ErrDelegationTokenRequestNotAllowed is DELEGATION_TOKEN_REQUEST_NOT_ALLOWED.
	ErrDelegationTokenRequestNotAllowed ErrorCode = 64
	// ErrDelegationTokenAuthorizationFailed is DELEGATION_TOKEN_AUTHORIZATION_FAILED.
	ErrDelegationTokenAuthorizationFailed ErrorCode = 65
	// ErrDelegationTokenExpired is DELEGATION_TOKEN_EXPIRED.
	ErrDelegationTokenExpired ErrorCode = 66
	// ErrInvalidPrincipalType is INVALID_PRINCIPAL_TYPE.
	ErrInvalidPrincipalType ErrorCode = 67
	// ErrNonEmptyGroup is NON_EMPTY_GROUP.
	ErrNonEmptyGroup ErrorCode = 68
	// ErrGroupIDNotFound is GROUP_ID_NOT_FOUND.
	ErrGroupIDNotFound ErrorCode = 69
	// ErrFetchSessionIDNotFound is FETCH_SESSION_ID_NOT_FOUND.
	ErrFetchSessionIDNotFound ErrorCode = 70
	// ErrInvalidFetchSessionEpoch is INVALID_FETCH_SESSION_EPOCH.
	ErrInvalidFetchSessionEpoch ErrorCode = 71
	// ErrListenerNotFound is LISTENER_NOT_FOUND.
	ErrListenerNotFound ErrorCode = 72
	// ErrTopicDeletionDisabled is TOPIC_DELETION_DISABLED.
	ErrTopicDeletionDisabled ErrorCode = 73
	// ErrFencedLeaderEpoch is FENCED_LEADER_EPOCH.
	ErrFencedLeaderEpoch ErrorCode = 74
	// ErrUnknownLeaderEpoch is UNKNOWN_LEADER_EPOCH.
	ErrUnknownLeaderEpoch ErrorCode = 75
	// ErrUnsupportedCompressionType is UNSUPPORTED_COMPRESSION_TYPE.
	ErrUnsupportedCompressionType ErrorCode = 76
	// ErrStaleBrokerEpoch is STALE_BROKER_EPOCH.
	ErrStaleBrokerEpoch ErrorCode = 77
	// ErrOffsetNotAvailable is OFFSET_NOT_AVAILABLE.
	ErrOffsetNotAvailable ErrorCode = 78
	// ErrMemberIDRequired is MEMBER_ID_REQUIRED.
	ErrMemberIDRequired ErrorCode = 79
	// ErrPreferredLeaderNotAvailable is PREFERRED_LEADER_NOT_AVAILABLE.
	ErrPreferredLeaderNotAvailable ErrorCode = 80
	// ErrGroupMaxSizeReached is GROUP_MAX_SIZE_REACHED.
	ErrGroupMaxSizeReached ErrorCode = 81
	// ErrFencedInstanceID is FENCED_INSTANCE_ID.
	ErrFencedInstanceID ErrorCode = 82
	// ErrEligibleLeadersNotAvailable is ELIGIBLE_LEADERS_NOT_AVAILABLE.
	ErrEligibleLeadersNotAvailable ErrorCode = 83
	// ErrElectionNotNeeded is ELECTION_NOT_NEEDED.
	ErrElectionNotNeeded ErrorCode = 84
	// ErrNoReassignmentInProgress is NO_REASSIGNMENT_IN_PROGRESS.
	ErrNoReassignmentInProgress ErrorCode = 85
	// ErrGroupSubscribedToTopic is GROUP_SUBSCRIBED_TO_TOPIC.
	ErrGroupSubscribedToTopic ErrorCode = 86
	// ErrInvalidRecord is INVALID_RECORD.
	ErrInvalidRecord ErrorCode = 87
	// ErrUnstableOffsetCommit is UNSTABLE_OFFSET_COMMIT.
	ErrUnstableOffsetCommit ErrorCode = 88
	// ErrThrottlingQuotaExceeded is THROTTLING_QUOTA_EXCEEDED.
	ErrThrottlingQuotaExceeded ErrorCode = 89
	// ErrProducerFenced is PRODUCER_FENCED.
	ErrProducerFenced ErrorCode = 90
	// ErrResourceNotFound is RESOURCE_NOT_FOUND.
	ErrResourceNotFound ErrorCode = 91
	// ErrDuplicateResource is DUPLICATE_RESOURCE.
	ErrDuplicateResource ErrorCode = 92
	// ErrUnacceptableCredential is UNACCEPTABLE_CREDENTIAL.
	ErrUnacceptableCredential ErrorCode = 93
	// ErrInconsistentVoterSet is INCONSISTENT_VOTER_SET.
	ErrInconsistentVoterSet ErrorCode = 94
	// ErrInvalidUpdateVersion is INVALID_UPDATE_VERSION.
	ErrInvalidUpdateVersion ErrorCode = 95
	// ErrFeatureUpdateFailed is FEATURE_UPDATE_FAILED.
	ErrFeatureUpdateFailed ErrorCode = 96
	// ErrPrincipalDeserializationFailure is PRINCIPAL_DESERIALIZATION_FAILURE.
	ErrPrincipalDeserializationFailure ErrorCode = 97
	// ErrSnapshotNotFound is SNAPSHOT_NOT_FOUND.
	ErrSnapshotNotFound ErrorCode = 98
	// ErrPositionOutOfRange is POSITION_OUT_OF_RANGE.
	ErrPositionOutOfRange ErrorCode = 99
	// ErrUnknownTopicID is UNKNOWN_TOPIC_ID.
	ErrUnknownTopicID ErrorCode = 100
	// ErrDuplicateBrokerRegistration is DUPLICATE_BROKER_REGISTRATION.
	ErrDuplicateBrokerRegistration ErrorCode = 101
	// ErrBrokerIDNotRegistered is BROKER_ID_NOT_REGISTERED.
	ErrBrokerIDNotRegistered ErrorCode = 102
	// ErrInconsistentTopicID is INCONSISTENT_TOPIC_ID.
	ErrInconsistentTopicID ErrorCode = 103
	// ErrInconsistentClusterID is INCONSISTENT_CLUSTER_ID.
	ErrInconsistentClusterID ErrorCode = 104
	// ErrTransactionalIDNotFound is TRANSACTIONAL_ID_NOT_FOUND.
	ErrTransactionalIDNotFound ErrorCode = 105
	// ErrFetchSessionTopicIDError is FETCH_SESSION_TOPIC_ID_ERROR.
	ErrFetchSessionTopicIDError ErrorCode = 106
	// ErrIneligibleReplica is INELIGIBLE_REPLICA.
	ErrIneligibleReplica ErrorCode = 107
	// ErrNewLeaderElected is NEW_LEADER_ELECTED.
	ErrNewLeaderElected ErrorCode = 108
	// ErrOffsetMovedToTieredStorage is OFFSET_MOVED_TO_TIERED_STORAGE.
	ErrOffsetMovedToTieredStorage ErrorCode = 109
	// ErrFencedMemberEpoch is FENCED_MEMBER_EPOCH.
	ErrFencedMemberEpoch ErrorCode = 110
	// ErrUnreleasedInstanceID is UNRELEASED_INSTANCE_ID.
	ErrUnreleasedInstanceID ErrorCode = 111
	// ErrUnsupportedAssignor is UNSUPPORTED_ASSIGNOR.
	ErrUnsupportedAssignor ErrorCode = 112
	// ErrStaleMemberEpoch is STALE_MEMBER_EPOCH.
	ErrStaleMemberEpoch ErrorCode = 113
	// ErrMismatchedEndpointType is MISMATCHED_ENDPOINT_TYPE.
	ErrMismatchedEndpointType ErrorCode = 114
	// ErrUnsupportedEndpointType is UNSUPPORTED_ENDPOINT_TYPE.
	ErrUnsupportedEndpointType ErrorCode = 115
	// ErrUnknownControllerID is UNKNOWN_CONTROLLER_ID.
	ErrUnknownControllerID ErrorCode = 116
	// ErrUnknownSubscriptionID is UNKNOWN_SUBSCRIPTION_ID.
	ErrUnknownSubscriptionID ErrorCode = 117
	// ErrTelemetryTooLarge is TELEMETRY_TOO_LARGE.
	ErrTelemetryTooLarge ErrorCode = 118
	// ErrInvalidRegistration is INVALID_REGISTRATION.
	ErrInvalidRegistration ErrorCode = 119
	// ErrTransactionAbortable is TRANSACTION_ABORTABLE.
	ErrTransactionAbortable ErrorCode = 120
	// ErrInvalidRecordState is INVALID_RECORD_STATE.
	ErrInvalidRecordState ErrorCode = 121
	// ErrShareSessionNotFound is SHARE_SESSION_NOT_FOUND.
	ErrShareSessionNotFound ErrorCode = 122
	// ErrInvalidShareSessionEpoch is INVALID_SHARE_SESSION_EPOCH.
	ErrInvalidShareSessionEpoch ErrorCode = 123
	// ErrFencedStateEpoch is FENCED_STATE_EPOCH.
	ErrFencedStateEpoch ErrorCode = 124
	// ErrInvalidVoterKey is INVALID_VOTER_KEY.
	ErrInvalidVoterKey ErrorCode = 125
	// ErrDuplicateVoter is DUPLICATE_VOTER.
	ErrDuplicateVoter ErrorCode = 126
	// ErrVoterNotFound is VOTER_NOT_FOUND.
	ErrVoterNotFound ErrorCode = 127
	// ErrInvalidRegularExpression is INVALID_REGULAR_EXPRESSION.
	ErrInvalidRegularExpression ErrorCode = 128
	// ErrRebootstrapRequired is REBOOTSTRAP_REQUIRED.
	ErrRebootstrapRequired ErrorCode = 129
	// ErrStreamsInvalidTopology is STREAMS_INVALID_TOPOLOGY.
	ErrStreamsInvalidTopology ErrorCode = 130
	// ErrStreamsInvalidTopologyEpoch is STREAMS_INVALID_TOPOLOGY_EPOCH.
	ErrStreamsInvalidTopologyEpoch ErrorCode = 131
	// ErrStreamsTopologyFenced is STREAMS_TOPOLOGY_FENCED.
	ErrStreamsTopologyFenced ErrorCode = 132
	// ErrShareSessionLimitReached is SHARE_SESSION_LIMIT_REACHED.
	ErrShareSessionLimitReached ErrorCode = 133
	// ErrGroupDeletionFailed is GROUP_DELETION_FAILED.
	ErrGroupDeletionFailed ErrorCode = 134
	// ErrStreamsTopologyDescriptionUpdateFailed is STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED.
	ErrStreamsTopologyDescriptionUpdateFailed ErrorCode = 135
	// ErrControllerIDNotRegistered is CONTROLLER_ID_NOT_REGISTERED.
	ErrControllerIDNotRegistered ErrorCode = 136
)

// errorNames holds the name and the retriable flag of each code from errorCodeMin on.
var errorNames = [...]errorName{
	{"UNKNOWN_SERVER_ERROR", false},
	{"NONE", false},
	{"OFFSET_OUT_OF_RANGE", false},
	{"CORRUPT_MESSAGE", true},
	{"UNKNOWN_TOPIC_OR_PARTITION", true},
	{"INVALID_FETCH_SIZE", false},
	{"LEADER_NOT_AVAILABLE", true},
	{"NOT_LEADER_OR_FOLLOWER", true},
	{"REQUEST_TIMED_OUT", true},
	{"BROKER_NOT_AVAILABLE", true},
	{"REPLICA_NOT_AVAILABLE", true},
	{"MESSAGE_TOO_LARGE", false},
	{"STALE_CONTROLLER_EPOCH", false},
	{"OFFSET_METADATA_TOO_LARGE", false},
	{"NETWORK_EXCEPTION", true},
	{"COORDINATOR_LOAD_IN_PROGRESS", true},
	{"COORDINATOR_NOT_AVAILABLE", true},
	{"NOT_COORDINATOR", true},
	{"INVALID_TOPIC_EXCEPTION", false},
	{"RECORD_LIST_TOO_LARGE", false},
	{"NOT_ENOUGH_REPLICAS", true},
	{"NOT_ENOUGH_REPLICAS_AFTER_APPEND", true},
	{"INVALID_REQUIRED_ACKS", false},
	{"ILLEGAL_GENERATION", false},
	{"INCONSISTENT_GROUP_PROTOCOL", false},
	{"INVALID_GROUP_ID", false},
	{"UNKNOWN_MEMBER_ID", false},
	{"INVALID_SESSION_TIMEOUT", false},
	{"REBALANCE_IN_PROGRESS", false},
	{"INVALID_COMMIT_OFFSET_SIZE", false},
	{"TOPIC_AUTHORIZATION_FAILED", false},
	{"GROUP_AUTHORIZATION_FAILED", false},
	{"CLUSTER_AUTHORIZATION_FAILED", false},
	{"INVALID_TIMESTAMP", false},
	{"UNSUPPORTED_SASL_MECHANISM", false},
	{"ILLEGAL_SASL_STATE", false},
	{"UNSUPPORTED_VERSION", false},
	{"TOPIC_ALREADY_EXISTS", false},
	{"INVALID_PARTITIONS", false},
	{"INVALID_REPLICATION_FACTOR", false},
	{"INVALID_REPLICA_ASSIGNMENT", false},
	{"INVALID_CONFIG", false},
	{"NOT_CONTROLLER", true},
	{"INVALID_REQUEST", false},
	{"UNSUPPORTED_FOR_MESSAGE_FORMAT", false},
	{"POLICY_VIOLATION", false},
	{"OUT_OF_ORDER_SEQUENCE_NUMBER", false},
	{"DUPLICATE_SEQUENCE_NUMBER", false},
	{"INVALID_PRODUCER_EPOCH", false},
	{"INVALID_TXN_STATE", false},
	{"INVALID_PRODUCER_ID_MAPPING", false},
	{"INVALID_TRANSACTION_TIMEOUT", false},
	{"CONCURRENT_TRANSACTIONS", true},
	{"TRANSACTION_COORDINATOR_FENCED", false},
	{"TRANSACTIONAL_ID_AUTHORIZATION_FAILED", false},
	{"SECURITY_DISABLED", false},
	{"OPERATION_NOT_ATTEMPTED", false},
	{"KAFKA_STORAGE_ERROR", true},
	{"LOG_DIR_NOT_FOUND", false},
	{"SASL_AUTHENTICATION_FAILED", false},
	{"UNKNOWN_PRODUCER_ID", false},
	{"REASSIGNMENT_IN_PROGRESS", false},
	{"DELEGATION_TOKEN_AUTH_DISABLED", false},
	{"DELEGATION_TOKEN_NOT_FOUND", false},
	{"DELEGATION_TOKEN_OWNER_MISMATCH", false},
	{"DELEGATION_TOKEN_REQUEST_NOT_ALLOWED", false},
	{"DELEGATION_TOKEN_AUTHORIZATION_FAILED", false},
	{"DELEGATION_TOKEN_EXPIRED", false},
	{"INVALID_PRINCIPAL_TYPE", false},
	{"NON_EMPTY_GROUP", false},
	{"GROUP_ID_NOT_FOUND", false},
	{"FETCH_SESSION_ID_NOT_FOUND", true},
	{"INVALID_FETCH_SESSION_EPOCH", true},
	{"LISTENER_NOT_FOUND", true},
	{"TOPIC_DELETION_DISABLED", false},
	{"FENCED_LEADER_EPOCH", true},
	{"UNKNOWN_LEADER_EPOCH", true},
	{"UNSUPPORTED_COMPRESSION_TYPE", false},
	{"STALE_BROKER_EPOCH", false},
	{"OFFSET_NOT_AVAILABLE", true},
	{"MEMBER_ID_REQUIRED", false},
	{"PREFERRED_LEADER_NOT_AVAILABLE", true},
	{"GROUP_MAX_SIZE_REACHED", false},
	{"FENCED_INSTANCE_ID", false},
	{"ELIGIBLE_LEADERS_NOT_AVAILABLE", true},
	{"ELECTION_NOT_NEEDED", true},
	{"NO_REASSIGNMENT_IN_PROGRESS", false},
	{"GROUP_SUBSCRIBED_TO_TOPIC", false},
	{"INVALID_RECORD", false},
	{"UNSTABLE_OFFSET_COMMIT", true},
	{"THROTTLING_QUOTA_EXCEEDED", true},
	{"PRODUCER_FENCED", false},
	{"RESOURCE_NOT_FOUND", false},
	{"DUPLICATE_RESOURCE", false},
	{"UNACCEPTABLE_CREDENTIAL", false},
	{"INCONSISTENT_VOTER_SET", false},
	{"INVALID_UPDATE_VERSION", false},
	{"FEATURE_UPDATE_FAILED", false},
	{"PRINCIPAL_DESERIALIZATION_FAILURE", false},
	{"SNAPSHOT_NOT_FOUND", false},
	{"POSITION_OUT_OF_RANGE", false},
	{"UNKNOWN_TOPIC_ID", true},
	{"DUPLICATE_BROKER_REGISTRATION", false},
	{"BROKER_ID_NOT_REGISTERED", false},
	{"INCONSISTENT_TOPIC_ID", true},
	{"INCONSISTENT_CLUSTER_ID", false},
	{"TRANSACTIONAL_ID_NOT_FOUND", false},
	{"FETCH_SESSION_TOPIC_ID_ERROR", true},
	{"INELIGIBLE_REPLICA", false},
	{"NEW_LEADER_ELECTED", false},
	{"OFFSET_MOVED_TO_TIERED_STORAGE", false},
	{"FENCED_MEMBER_EPOCH", false},
	{"UNRELEASED_INSTANCE_ID", false},
	{"UNSUPPORTED_ASSIGNOR", false},
	{"STALE_MEMBER_EPOCH", false},
	{"MISMATCHED_ENDPOINT_TYPE", false},
	{"UNSUPPORTED_ENDPOINT_TYPE", false},
	{"UNKNOWN_CONTROLLER_ID", false},
	{"UNKNOWN_SUBSCRIPTION_ID", false},
	{"TELEMETRY_TOO_LARGE", false},
	{"INVALID_REGISTRATION", false},
	{"TRANSACTION_ABORTABLE", false},
	{"INVALID_RECORD_STATE", false},
	{"SHARE_SESSION_NOT_FOUND", false},
	{"INVALID_SHARE_SESSION_EPOCH", false},
	{"FENCED_STATE_EPOCH", false},
	{"INVALID_VOTER_KEY", false},
	{"DUPLICATE_VOTER", false},
	{"VOTER_NOT_FOUND", false},
	{"INVALID_REGULAR_EXPRESSION", false},
	{"REBOOTSTRAP_REQUIRED", false},
	{"STREAMS_INVALID_TOPOLOGY", false},
	{"STREAMS_INVALID_TOPOLOGY_EPOCH", false},
	{"STREAMS_TOPOLOGY_FENCED", false},
	{"SHARE_SESSION_LIMIT_REACHED", true},
	{"GROUP_DELETION_FAILED", false},
	{"STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED", false},
	{"CONTROLLER_ID_NOT_REGISTERED", false},
}
