package dpsgd

// mistake is a known error of DP-SGD implementations. Tests inject one to prove
// that their checks would catch it; no exported name reaches it.
type mistake int

const (
	noMistake       mistake = iota
	noSquareRoot            // The clip factor divides by the squared norm.
	keepNonFinite           // An example with a gradient that is not finite stays in the sum.
	firstTensorOnly         // Noise on the first tensor's coordinates only.
	quietWhenEmpty          // No noise on the sum of an empty batch.
	halfSensitivity         // Noise for half the sensitivity.
	noClip                  // A vector is not clipped.
)
