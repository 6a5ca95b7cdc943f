package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/protocol"
)

// ApiVersions (key 18), versions 0-5.
//
// Tells the version range of every API in the dispatch table, and no other. Any version is answered: one that the
// broker does not know gets the v0 body with UNSUPPORTED_VERSION and the list, so that the client can come back with
// a version both know (KIP-511). The response header is always v0. From v3 the client says its software's name
// and version, which must look like one (KIP-511). From v5 it may say which node it believes to talk to; a
// mismatch is REBOOTSTRAP_REQUIRED (KIP-1242).
//
// Features: none is supported and none is finalised. Transactions protocol v2, the new group protocol and the
// others are announced when they work.

// handleApiVersions serves ApiVersions at any version: it decodes the body itself.
func (b *Broker) handleApiVersions(r *request, body []byte) error {
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.ApiKeys = b.apiKeys
	resp.FinalizedFeaturesEpoch = -1
	supported, _ := protocol.SupportedRange(r.key)
	if r.version < supported.Min || r.version > supported.Max {
		r.version = 0
		resp.ErrorCode = int16(protocol.ErrUnsupportedVersion)
		r.Reply(resp)
		return nil
	}
	req := kmsg.NewPtrApiVersionsRequest()
	req.SetVersion(r.version)
	if err := protocol.DecodeRequest(req, body); err != nil {
		return err
	}
	resp.ErrorCode = int16(b.checkApiVersions(req))
	if resp.ErrorCode != 0 {
		resp.ApiKeys = nil
	}
	r.Reply(resp)
	return nil
}

func (b *Broker) checkApiVersions(req *kmsg.ApiVersionsRequest) protocol.ErrorCode {
	if req.Version >= 3 && (!isSoftwareName(req.ClientSoftwareName) || !isSoftwareName(req.ClientSoftwareVersion)) {
		return protocol.ErrInvalidRequest
	}
	if req.Version < 5 {
		return protocol.ErrNone
	}
	if req.ClusterID != nil && *req.ClusterID != b.node.Image().ClusterID() {
		return protocol.ErrRebootstrapRequired
	}
	if req.NodeID != -1 && req.NodeID != b.nodeID {
		return protocol.ErrRebootstrapRequired
	}
	return protocol.ErrNone
}

// isSoftwareName reports whether s is letters, digits, dots and dashes, with a letter or digit at both ends.
func isSoftwareName(s string) bool {
	if s == "" {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		letterOrDigit := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		inside := i > 0 && i < len(s)-1 && (c == '.' || c == '-')
		if !letterOrDigit && !inside {
			return false
		}
	}
	return true
}
