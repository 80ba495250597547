// Package audit measures what a run gives away, from below: lower bounds on
// epsilon from canaries, membership tests, and a search for replicas.
//
// This package sees private data. Whatever it computes from private images is
// not covered by the claim of the run.
//
//   - Canaries ([Canaries], [Canaries.Result]): examples with known, mutually
//     orthogonal gradients, each in or out of the training by a fair coin, pass
//     through the very step of the run. Whoever sees the noised sums guesses the
//     coins; how often he is right bounds epsilon from below.
//   - Membership ([Membership]): tests that look at the finished model and tell
//     training images from others, with the area under the curve and the share
//     recognised at few false alarms.
//   - Replicas ([FindReplicas]): synthetic images that are nearer to a training
//     image than held-out images are.
//
// An attack that finds nothing proves nothing by itself. [TrainControl] makes a
// model that is not private, which the last two must catch.
package audit
