package cluster

import (
	"cmp"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func checkBalanced(t *rapid.T, n *treeNode[int, int]) int8 {
	if n == nil {
		return 0
	}
	l, r := checkBalanced(t, n.left), checkBalanced(t, n.right)
	if l-r > 1 || r-l > 1 || n.height != 1+max(l, r) {
		t.Fatalf("node %d: heights %d and %d, says %d", n.key, l, r, n.height)
	}
	return n.height
}

func TestTreeIsAnImmutableBalancedMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tr := newTree[int, int](cmp.Compare[int])
		model := map[int]int{}
		key := rapid.IntRange(0, 40)
		for range rapid.IntRange(0, 120).Draw(t, "ops") {
			before, k := tr, key.Draw(t, "key")
			content := collect(before)
			if rapid.Bool().Draw(t, "set") {
				v := rapid.Int().Draw(t, "value")
				tr = tr.set(k, v)
				model[k] = v
			} else {
				tr = tr.remove(k)
				delete(model, k)
			}
			if !slices.Equal(content, collect(before)) {
				t.Fatal("the old tree changed")
			}
			checkBalanced(t, tr.root)
		}
		if tr.count != len(model) {
			t.Fatalf("count %d, want %d", tr.count, len(model))
		}
		for k := range 41 {
			got, ok := tr.get(k)
			want, has := model[k]
			if got != want || ok != has {
				t.Fatalf("get %d: %d %v, want %d %v", k, got, ok, want, has)
			}
		}
		low := key.Draw(t, "low")
		var got, want []int
		for k := range tr.from(low) {
			got = append(got, k)
		}
		for k := range model {
			if k >= low {
				want = append(want, k)
			}
		}
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("from %d: %v, want %v", low, got, want)
		}
	})
}

func collect(tr tree[int, int]) (pairs [][2]int) {
	for k, v := range tr.all() {
		pairs = append(pairs, [2]int{k, v})
	}
	return pairs
}

func TestTreeWalkStops(t *testing.T) {
	tr := newTree[int, int](cmp.Compare[int])
	for k := range 100 {
		tr = tr.set(k, k)
	}
	seen := 0
	for k := range tr.from(30) {
		if seen++; k == 34 {
			break
		}
	}
	if seen != 5 {
		t.Errorf("saw %d, want 5", seen)
	}
}
