// Package eval turns images into numbers: distances between two sets of images
// (FID, KID, inception score, precision and recall, density and coverage, FLD)
// on the features of a network, and the accuracy of classifiers trained on one
// set and scored on another.
//
// Features come from the network that scumble carries ([Glyphs]), from Inception
// v3 in a local file ([OpenInception]), or from a file that another program wrote
// ([ReadFeatures]). Metrics see features alone, so they can be checked against
// torch-fidelity, clean-fid and prdc without a network; testdata/record.py does.
//
// This package sees private data when it is given private images. Numbers
// computed from them are not covered by the privacy claim; the caller keeps
// them in a run's private folder.
package eval
