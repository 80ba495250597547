package backend

import "runtime"

// artifact pins one published build of a plugin or of the allocator. The digests were taken from the files
// that we tested; the index that served them is not trusted.
type artifact struct {
	OS, Arch         string // As in GOOS and GOARCH.
	Platform         string // "cpu", "cuda", ..., or allocatorPlatform.
	Project, Version string // On the Python Package Index.
	File             string // Wheel file name.
	Size             int64  // Bytes of the wheel.
	SHA256           string // Of the wheel.
	Member           string // The library inside the wheel.
	MemberSize       int64
	MemberSHA256     string
	License          string
}

// pinned lists the builds that Install takes without being given a digest.
var pinned = []artifact{{
	OS: "linux", Arch: "amd64", Platform: "cpu",
	Project: "lammps-jax-pjrt-cpu", Version: "0.11.2",
	File:         "lammps_jax_pjrt_cpu-0.11.2-py3-none-manylinux_2_27_x86_64.whl",
	Size:         62711338,
	SHA256:       "1319390d948b39f69f7dade496b7c385149d9ca6097a6b62114da113216d9ad1",
	Member:       "lammps_jax_pjrt_cpu/pjrt_c_api_cpu_plugin.so",
	MemberSize:   201600336,
	MemberSHA256: "ad1309ac822b1b24d51b7f9947c7c9fa9ef5d67f390584cbc3d1fa2428fed9c2",
	License:      "Apache-2.0",
}, {
	OS: "linux", Arch: "amd64", Platform: allocatorPlatform,
	Project: "cmeel-mimalloc", Version: "3.4.3",
	File:         "cmeel_mimalloc-3.4.3-0-py3-none-manylinux_2_28_x86_64.whl",
	Size:         534731,
	SHA256:       "627d9e379503fd8a1001bed618f7434477c221f017cf31d4caca65d464731ff0",
	Member:       "cmeel.prefix/lib/libmimalloc.so",
	MemberSize:   266416,
	MemberSHA256: "5f98a5fe0f5ba62de1f4d3ff864b7cd0868cf89d9cb58587ed728bf65f6026eb",
	License:      "MIT",
}}

// pinnedHere returns the build that is pinned for this machine and a platform.
func pinnedHere(platform string) (artifact, bool) {
	for _, a := range pinned {
		if a.OS == runtime.GOOS && a.Arch == runtime.GOARCH && a.Platform == platform {
			return a, true
		}
	}
	return artifact{}, false
}
