#!/bin/sh
# The whole chain, top to bottom, one command a stage. Each command would bring everything before it up to date by
# itself; written out, it shows what there is.
#
#   examples/pipeline.sh WORKSPACE     a folder with skinkit.toml: made by 'skinkit init', or by 'skinkit demo'
set -eu
cd "${1:?usage: pipeline.sh WORKSPACE}"

skinkit ingest      # source folders      -> artifacts/<cohort>/cases
skinkit segment     # cases               -> artifacts/<cohort>/masks/<segmenter>
skinkit radiomics   # cases + masks       -> artifacts/<cohort>/features/<segmenter>
skinkit fuse        # features + cases    -> artifacts/<cohort>/fused/<segmenter>
skinkit split       # development cases   -> artifacts/splits/<split>/split
skinkit select      # features + split    -> artifacts/splits/<split>/signature/<segmenter>
# skinkit synthesise --model GENERATOR: a model of one's own + split -> artifacts/synthetic/<name>
skinkit train       # fused + split       -> artifacts/models/<model>
skinkit predict     # model + fused       -> artifacts/<cohort>/predictions/<model>
skinkit explain     # model + predictions -> artifacts/<cohort>/explanations/<model>
skinkit evaluate    # predictions + truth -> artifacts/<cohort>/metrics/<model>
skinkit report      # all of them         -> artifacts/report/research/index.html
