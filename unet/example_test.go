package unet_test

import (
	"fmt"

	"github.com/scumble-dp/scumble/backend"
	"github.com/scumble-dp/scumble/unet"
)

func ExampleParseConfig() {
	c, err := unet.ParseConfig([]byte(`{
		"_class_name": "UNet2DModel",
		"in_channels": 1,
		"out_channels": 1,
		"block_out_channels": [32, 64],
		"down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
		"up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
		"layers_per_block": 1,
		"num_class_embeds": 11
	}`))
	if err != nil {
		panic(err)
	}
	for _, name := range c.AttentionModules() {
		fmt.Println(name)
	}
	b, _, err := backend.Open(backend.Go)
	if err != nil {
		panic(err)
	}
	defer b.Finalize()
	specs, err := c.Specs(b)
	if err != nil {
		panic(err)
	}
	size := 0
	for _, spec := range specs {
		size += spec.Size()
	}
	fmt.Println(size, "parameters, the first", specs[0].Name)
	// Output:
	// down_blocks.1.attentions.0
	// mid_block.attentions.0
	// up_blocks.0.attentions.0
	// up_blocks.0.attentions.1
	// 702753 parameters, the first time_embedding.linear_1.weight
}
