package eval

import (
	"math/rand/v2"
	"sync"
)

// order goes through n examples again and again, each time in another order. It
// may be used by several goroutines.
type order struct {
	n     int
	seed  uint64
	mutex sync.Mutex
	round int
	now   []int
	last  []int // Of the round before: a batch may reach back.
}

func newOrder(n int, seed uint64) *order { return &order{n: n, seed: seed, round: -1} }

// at returns the example at a place, counted from the beginning. Places may be
// asked for in any order within two rounds.
func (o *order) at(place int) int {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	round := place / o.n
	for o.round < round {
		o.round++
		o.last = o.now
		o.now = rand.New(rand.NewPCG(o.seed+3, uint64(o.round))).Perm(o.n)
	}
	if round < o.round {
		return o.last[place%o.n]
	}
	return o.now[place%o.n]
}
