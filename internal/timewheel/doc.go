// Package timewheel is the one timer of weir: a hierarchical timing wheel
// that holds hundreds of thousands of pending timeouts (delayed fetches and
// produces, sessions, rebalances) with O(1) add and stop.
//
// Seven levels of 64 slots. A timer lies in the level
// of the highest six-bit digit in which its due tick differs from the current
// tick, in the slot of that digit; a bitmap per level finds the next occupied
// slot with one instruction. When the wheel reaches a slot above level 0 its
// timers move down a level: each timer moves at most six times in its life.
// A binary heap would pay O(log n) on each add and stop, and nearly all
// timeouts are stopped before they fire.
//
// Place in the path: broker parks a request -> here -> callback on expiry.
//
// Goroutines: one per Wheel, owned by it, ended by Close. It sleeps until the
// next occupied slot: an idle wheel does not tick. Callbacks run on it, one
// at a time, so they must be short and must not block.
//
// Locks: one mutex per Wheel, a leaf: never held while a callback runs, so
// After and Stop may be called under any lock and from callbacks.
package timewheel
