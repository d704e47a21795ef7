"""Compare a panel of encoders on image domains: CKA, its calibration, neighbours, and PCKA.

    python -m experiments.cka --encoders=all

compares the bundled mini panel on the embedded sample domains: no download, about a minute on two
CPU cores. Published checkpoints and other images:

    python -m experiments.cka --panel=paper --encoders=all --weights_dir=WEIGHTS \
        --domains=natural=tfds:imagenette,mine=dir:PICTURES --n=1000

Features are kept in OUT/features, so a run that stops goes on where it was, and a second run reads
them. Written to OUT: result.json, figures and report.html.
"""

import dataclasses
from pathlib import Path

from absl import flags

from experiments import launch

FLAGS = flags.FLAGS
flags.DEFINE_enum("panel", "mini", ["mini", "paper"], "Where `all` and groups look for encoders.")
flags.DEFINE_list(
    "encoders",
    ["all"],
    "Names, or groups: all, discriminative, mim, supervised, self_supervised, image_text, shared.",
)
flags.DEFINE_bool("list_encoders", False, "Print the encoders of both panels and stop.")
flags.DEFINE_string(
    "domains",
    "sample",
    "Names or NAME=SOURCE, with SOURCE tfds:..., dir:..., npz:... or sample:...",
)
flags.DEFINE_string("weights_dir", None, "Folder with NAME.safetensors for each encoder.")
flags.DEFINE_integer("n", 512, "Images a domain, chosen by a hash of their ids and the seed.")
flags.DEFINE_list("k", ["10", "30", "100"], "Neighbours for mutual kNN recall.")
flags.DEFINE_integer("components", 16, "Principal components of a substrate.")
flags.DEFINE_enum(
    "calibration", "closed_form", ["closed_form", "permutation"], "How the null is computed."
)
flags.DEFINE_integer("permutations", 200, "Draws, for --calibration=permutation.")
flags.DEFINE_float("alpha", 0.05, "Level of tau, and of the q-values counted in the summary.")
flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Of the encoders' arithmetic.")
flags.DEFINE_enum(
    "normalization",
    "imagenet",
    ["imagenet", "own"],
    "Mean and deviation of the input: ImageNet's for every encoder, as the paper has it, or each "
    "checkpoint's own.",
)
flags.DEFINE_integer("batch_size", 64, "Images at once, over all devices.")
flags.DEFINE_integer("workers", 0, "Processes that decode images; 0 decodes in threads.")
flags.DEFINE_float(
    "device_memory", None, "GiB of each device for encoders, which then take turns; all at once."
)
flags.DEFINE_integer(
    "chunk_rows", 512, "Images a file of the store: what a kill can lose, and processes share out."
)
flags.DEFINE_bool("skip_bad", False, "Leave out unreadable images, for every encoder alike.")
flags.DEFINE_string(
    "store", None, "Folder or gs:// URL of the feature store; OUT/features by default."
)


def run() -> None:
    """Resolve the plan, extract features, compare, and write the report."""
    from substrate_jax.data.domains import open_source, resolve_domains
    from substrate_jax.data.sources import take
    from substrate_jax.encoders import encoder_spec, select_encoders
    from substrate_jax.mesh import make_mesh

    if FLAGS.list_encoders:
        print(encoder_table())
        return
    names = select_encoders(FLAGS.encoders, FLAGS.panel)
    specs = [encoder_spec(name) for name in names]
    ks = neighbor_counts(FLAGS.k)
    least = max([4, FLAGS.components + 1, *(k + 1 for k in ks)])
    if least > FLAGS.n:
        raise ValueError(
            f"n={FLAGS.n} images a domain are too few for k={max(ks)} neighbours and "
            f"{FLAGS.components} components; give --n={least} or more"
        )
    if not 0 < FLAGS.alpha < 1:
        raise ValueError(f"alpha={FLAGS.alpha}: give a level between 0 and 1")
    mesh = make_mesh(FLAGS.mesh)
    sources = {
        name: take(open_source(spec), FLAGS.n, FLAGS.seed)
        for name, spec in resolve_domains(FLAGS.domains).items()
    }
    out = Path(FLAGS.out or "runs/cka")
    if FLAGS.dry_run:
        print(plan(specs, sources, mesh, out))
        return
    with launch.claim(out):
        compute(specs, sources, ks, mesh, out)


def compute(specs, sources, ks, mesh, out: Path) -> None:
    """Everything after the plan; `out` is held by this run."""
    import jax
    import numpy as np

    from substrate_jax import report
    from substrate_jax.comparison import compare_encoders, separation
    from substrate_jax.encoders import load_encoder
    from substrate_jax.encoders.weights import parameter_count
    from substrate_jax.features import FeatureStore, extract
    from substrate_jax.substrate import pairwise_pcka

    stages = launch.Stages()
    with stages("load"):
        encoders = [
            load_encoder(
                spec.name,
                FLAGS.weights_dir if FLAGS.weights_dir and not spec.bundled else None,
                dtype=FLAGS.dtype,
                preprocess=input_preprocess(spec),
            )
            for spec in specs
        ]
    features = {}
    for name, source in sources.items():
        with stages("extract"), launch.progress_bar(name, len(source), "image") as progress:
            features[name] = extract(
                encoders,
                source,
                mesh=mesh,
                store=FeatureStore(FLAGS.store or out / "features", FLAGS.chunk_rows),
                batch_size=FLAGS.batch_size,
                skip_bad=FLAGS.skip_bad,
                workers=FLAGS.workers,
                device_memory=FLAGS.device_memory and int(FLAGS.device_memory * 2**30),
                gather=jax.process_count() == 1,
                progress=progress,
            )
    groups = [spec.groups for spec in specs]
    domains = {}
    for name, source in sources.items():
        with stages("analyse"):
            result = compare_encoders(
                features[name],
                ks=ks,
                method=FLAGS.calibration,
                permutations=FLAGS.permutations,
                alpha=FLAGS.alpha,
                seed=FLAGS.seed,
                mesh=mesh,
            )
            result["separation"] = separation(result["calibrated"]["score"], groups)
        domains[name] = describe(name, source) | result
    with stages("analyse"):
        pcka = domain_agreement(
            list(features),
            pairwise_pcka(list(features.values()), FLAGS.components, mesh=mesh),
        )
    if not launch.is_first_process():
        return
    with stages("report"):
        result = {
            "experiment": "cka",
            **launch.provenance(mesh),
            "encoders": [
                {
                    "name": encoder.name,
                    "family": encoder.spec.family,
                    "paradigm": encoder.spec.paradigm,
                    "width": encoder.spec.width,
                    "parameters": parameter_count(encoder.spec.config),
                    "source": encoder.source,
                    "sha256": encoder.sha256,
                }
                for encoder in encoders
            ],
            "domains": domains,
            "pcka": pcka,
            "notes": notes(sources, features),
        }
        thumbnails = {
            name: [source[int(row)].image for row in np.linspace(0, len(source) - 1, 8)]
            for name, source in sources.items()
        }
        path = report.write_report(result | {"seconds": stages.total()}, out, thumbnails=thumbnails)
    result["seconds"] = stages.total()
    report.write_result(result, out)
    print(report.summary_table(result))
    print(f"report: {path}")


def encoder_table() -> str:
    """All registered encoders, one a line."""
    from substrate_jax.encoders import encoder_spec, list_encoders

    lines = [f"{'name':20s} {'panel':6s} {'family':9s} {'paradigm':22s} width licence      weights"]
    for name in list_encoders():
        spec = encoder_spec(name)
        lines.append(
            f"{name:20s} {spec.panel or '-':6s} {spec.family:9s} {spec.paradigm:22s} "
            f"{spec.width:5d} {spec.licence:12s} {spec.checkpoint}"
        )
    return "\n".join(lines)


def neighbor_counts(words: list[str]) -> tuple[int, ...]:
    """The values of --k."""
    try:
        ks = tuple(dict.fromkeys(int(word) for word in words))
    except ValueError:
        raise ValueError(f"k={','.join(words)!r}: give whole numbers, such as 10,30,100") from None
    if not ks or min(ks) < 1:
        raise ValueError(f"k={','.join(words)!r}: give numbers of neighbours of at least 1")
    return ks


def input_preprocess(spec):
    """The checkpoint's resize and crop, with the normalisation that --normalization asks for."""
    from substrate_jax.data.preprocess import IMAGENET_MEAN, IMAGENET_STD

    if FLAGS.normalization == "own":
        return spec.preprocess
    return dataclasses.replace(spec.preprocess, mean=IMAGENET_MEAN, std=IMAGENET_STD)


def describe(name: str, source) -> dict:
    """What a domain's images are, for the report."""
    import numpy as np

    from substrate_jax.data.domains import list_domains, resolve_domains

    registered = {domain.name: domain for domain in list_domains()}
    return {
        "source": resolve_domains(FLAGS.domains)[name],
        "fingerprint": source.fingerprint,
        "description": registered[name].description if name in registered else "",
        "pictures": None if source.labels is None else len(np.unique(source.labels)),
    }


def domain_agreement(names: list[str], matrix) -> dict | None:
    """PCKA of all pairs of domains, with median and minimum; None for a single domain."""
    import numpy as np

    if len(names) < 2:
        return None
    matrix = np.asarray(matrix, np.float64)
    rows, columns = np.triu_indices(len(names), 1)
    values = matrix[rows, columns]
    lowest = int(np.nanargmin(values))
    return {
        "domains": names,
        "matrix": matrix,
        "median": float(np.nanmedian(values)),
        "min": float(values[lowest]),
        "min_pair": [names[rows[lowest]], names[columns[lowest]]],
        "k": FLAGS.components,
    }


def notes(sources, features) -> list[str]:
    """Choices of this run that change how its numbers read."""
    found = ["Features and products are computed in " + FLAGS.dtype + "."]
    if FLAGS.normalization == "imagenet":
        found.append("Every encoder's input has ImageNet's mean and deviation.")
    else:
        found.append("Every encoder's input has the mean and deviation of its own checkpoint.")
    for name, source in sources.items():
        if left_out := len(source) - len(features[name].ids):
            found.append(f"{name}: {left_out} of {len(source)} images could not be read.")
    return found


def plan(specs, sources, mesh, out: Path) -> str:
    """What a run would do: encoders, domains, shapes, memory, downloads."""
    from substrate_jax.encoders import is_at_hand
    from substrate_jax.encoders.weights import parameter_count

    total = sum(spec.width for spec in specs)
    lines = [f"mesh: {dict(mesh.shape)}   out: {out}   dtype: {FLAGS.dtype}", "encoders:"]
    missing = 0
    for spec in specs:
        parameters = parameter_count(spec.config)
        here = is_at_hand(spec, FLAGS.weights_dir)
        missing += 0 if here else 4 * parameters
        where = "at hand" if here else f"to download from {spec.checkpoint}"
        lines.append(
            f"  {spec.name:20s} {spec.family:9s} {spec.paradigm:22s} width {spec.width:5d} "
            f"parameters {parameters:12,d}  {where}"
        )
    lines.append("domains:")
    for name, source in sources.items():
        size = 4 * len(source) * total / 2**20
        lines.append(
            f"  {name:20s} {len(source)} images -> features [{len(source)}, {total}] "
            f"float32, {size:.1f} MiB"
        )
    lines.append(f"to download: {missing / 2**20:.0f} MiB")
    return "\n".join(lines)


if __name__ == "__main__":
    launch.start(run)
