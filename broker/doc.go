// Package broker is the one package that knows everyone: it turns frames from netpoll into calls on the
// engine and the cluster, and their results into responses.
//
// # Place in the path
//
// netpoll hands every whole frame to dispatcher.OnFrame on the connection's loop. The dispatch table
// (dispatch.go) finds the handler by API key, decodes the body and runs the handler: in place for the short
// ones (Produce, Fetch, ApiVersions, Metadata), on the worker pool for those that may block (admin
// requests, ListOffsets, DeleteRecords). A handler answers exactly once through its request (request.go);
// the netpoll ticket taken at the frame's arrival keeps the responses of a connection in request order.
//
// One file per API, named after it (api_produce.go and so on), each opening with versions, behaviour and
// deviations. Requests that wait (a fetch for bytes, a produce for an fsync) are objects that log waiters and
// a timing wheel complete (delayed_fetch.go, delayed_produce.go): no request ever holds a goroutine.
//
// Every error of a lower package becomes a Kafka code in exactly one table, errors.go.
//
// # Goroutines
//
// The package owns the worker pool (workers.go, started and stopped with the broker) and the timing wheel's
// driver. Everything else runs on netpoll's loops, on the log directory's fsync goroutines (through log
// waiters) or on the cluster's goroutine (image changes).
//
// # Locks
//
// In this order, outermost first: fetchSession.mu -> fetchSessions.mu; delayedFetch.mu and
// delayedProduce.mu are never held while calling an engine function that takes a lock, and never together;
// connState.mu and workers.mu are leaves. No lock of this package is held while a response is sent.
package broker
