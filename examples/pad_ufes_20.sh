#!/bin/sh
# The whole chain on PAD-UFES-20, patients kept apart, five folds.
#
#   examples/pad_ufes_20.sh DIR [WORKSPACE]
#
# DIR        PAD-UFES-20 as downloaded: metadata.csv and the images, in any subfolders
# WORKSPACE  made here; default ./pad-workspace. Run it again after an interruption: finished work is kept.
#
#   WEIGHTS=resnet50.safetensors   ImageNet weights of torchvision's ResNet-50 (else those of 'skinkit weights fetch')
#   EXTERNAL=SOURCE:PATH           a second cohort that is only scored, for example isic-2018-task3:/data/ISIC2018
#   SEGMENTER=otsu                 or truth, where DIR has masks/
set -eu
data=$(cd "${1:?usage: pad_ufes_20.sh DIR [WORKSPACE]}" && pwd)
workspace=${2:-pad-workspace}
weights=${WEIGHTS:-}
[ -z "$weights" ] || weights=$(cd "$(dirname "$weights")" && pwd)/$(basename "$weights")

if [ ! -f "$workspace/skinkit.toml" ]; then
    skinkit init "$workspace" --cohort "pad=pad-ufes-20:$data" ${EXTERNAL:+--cohort "external=$EXTERNAL:external"} \
        --segmenter "${SEGMENTER:-otsu}" --model frozen_probe
fi
cd "$workspace"

skinkit split --folds 5 --seed 0
skinkit train ${weights:+--weights "$weights"}
skinkit evaluate
skinkit explain
skinkit report
