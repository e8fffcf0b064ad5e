"""The files of a round, whole or not there."""

import json
from pathlib import Path

import torch.distributed as dist

from mmpt.data.shards.write import TokenShardWriter
from mmpt.improvement.config import ImproveConfig, round_folder, rounds
from mmpt.improvement.lessons import Lesson
from mmpt.improvement.rollouts import Rollout, drawn, questions, rollouts
from mmpt.inference.load import MultimodalModel, load
from mmpt.inference.samplers.greedy import Greedy
from mmpt.storage import read_json, write_bytes, write_json
from mmpt.training.distributed import World

ROUND = "round.json"


def answer(config: ImproveConfig, number: int, checkpoint: Path, world: World) -> bool:
    """Ask and score in round `number` (from 0), and make sequences of the answers (answers.jsonl, tokens/, round.json in its
    folder), unless that is there. Returns whether there is anything to learn; every rank calls it."""
    folder, lesson = round_folder(config, number), rounds(config)[number].lesson
    if world.rank == 0 and not (folder / ROUND).is_file():
        model = load(checkpoint, world.device)
        asked, seed = questions(config.prompts), config.sampling.seed
        chosen = [asked[place] for place in drawn(len(asked), config.prompts_per_round, number, seed)]
        found = list(rollouts(model, chosen, config.reward, config.sampling, config.answers, seed + number + 1))
        _write(found, lesson, model, checkpoint, folder)
        told = read_json(folder / ROUND)
        print(
            f"round {number + 1}: reward {told['reward']:.4f} over {told['answers']} answers, {told['learned']} learned",
            flush=True,
        )
        del model
    dist.barrier()
    return bool(read_json(folder / ROUND)["learned"])


def measure(config: ImproveConfig, when: str, checkpoint: Path, world: World) -> None:
    """The mean reward of answers to what is held out, greedy ones (`reward`) and ones that are drawn as in the rounds (`sampled
    reward`), as results that recipes/reproduce reads, unless they are there."""
    path = config.output / when / "results.json"
    if config.held_out and world.rank == 0 and not path.is_file():
        model, asked = load(checkpoint, world.device), questions(config.held_out)
        greedy, measures = config.sampling.model_copy(update={"text": Greedy()}), []
        for name, settings in (("reward", greedy), ("sampled reward", config.sampling)):
            groups = rollouts(model, asked, config.reward, settings, 1, config.sampling.seed)
            rewards = [one.scored.reward for group in groups for one in group]
            measures.append({"name": name, "value": sum(rewards) / len(rewards), "count": len(rewards)})
            print(f"{when}: {name} {measures[-1]['value']:.4f} of {len(rewards)} held-out questions", flush=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"model": str(checkpoint), "results": [{"name": "held out", "measures": measures}]})
    dist.barrier()


def note(config: ImproveConfig, world: World) -> None:
    """OUTPUT/rounds.jsonl: a line for each round."""
    if world.rank == 0:
        told = [read_json(round_folder(config, number) / ROUND) for number in range(len(rounds(config)))]
        lines = [json.dumps({"round": number, **one}) for number, one in enumerate(told, start=1)]
        write_bytes(config.output / "rounds.jsonl", ("\n".join(lines) + "\n").encode())


def _write(found: list[list[Rollout]], lesson: Lesson, model: MultimodalModel, checkpoint: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"group": number, **one.told} for number, group in enumerate(found) for one in group]
    write_bytes(folder / "answers.jsonl", "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode())
    documents = [one for group in found for one in lesson.documents([rollout.scored for rollout in group])]
    chat = model.tokenizer.chat
    assert chat is not None  # else there would be no answers
    if documents:
        built = {"model": str(checkpoint), "chat": chat.format.model_dump(mode="json")}
        with TokenShardWriter(folder / "tokens", vocabulary=model.tokenizer.vocabulary, built=built) as writer:
            for document in documents:
                writer.write(document)
    rewards = [row["reward"] for row in rows]
    write_json(
        folder / ROUND,
        {
            "reward": sum(rewards) / len(rewards),
            "answers": len(rewards),
            "ended": sum(row["ended"] for row in rows) / len(rows),
            "learned": len(documents),
        },
    )
