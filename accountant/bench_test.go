package accountant

import "testing"

func BenchmarkEpsilon(b *testing.B) {
	for _, c := range []struct {
		name  string
		e     Event
		delta float64
	}{
		{"mnist-eps1", DPSGD(13.003, 4096.0/60000, 2197), 1e-5},
		{"mnist-eps10", DPSGD(1.855, 4096.0/60000, 2197), 1e-5},
		{"celebahq-eps10", DPSGD(0.561, 256.0/30000, 1171), 1e-5},
		{"imagenet-eps5", DPSGD(1.001, 0.012788340630066182, 2345), 1e-7},
		{"long-eps12", DPSGD(4, 0.02, 200000), 1e-5},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := (PLD{}).Epsilon([]Event{c.e}, AddOrRemove, c.delta); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCalibrate(b *testing.B) {
	for b.Loop() {
		if _, err := CalibrateNoiseMultiplier(PLD{}, nil, DPSGD(0, 0.02, 2000), AddOrRemove, 4, 1e-5); err != nil {
			b.Fatal(err)
		}
	}
}
