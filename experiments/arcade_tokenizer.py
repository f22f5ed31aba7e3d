"""The `arcade` frame tokenizer: 160x160 px to 20x20 ids, a table of patches (not in the paper).

    command     fv train arcade_tokenizer   (pip install 'fv-jax[arcade]')
    cost        four minutes on two CPU cores: two and a half to play 784 clips, then k-means
    size        6,144 patches, 1.2 MB
    seed        none: clips are numbered, k-means begins with the patches that count most
    expected    >= 32 dB on unseen clips of its 16 games, >= 28 dB on eight games never seen
    measured    37.0 dB on 64 unseen clips, mean over frames (33.6 dB of the mean squared error);
                24.5 dB on games never seen, less than was wanted; ids stay in all patches where no
                pixel changes. 2026-11-28, an AMD EPYC with two cores, jax 0.10.2

Two fifths of the weight are patches of the 80 other games, so that games never seen are not all
wrong. What was tried for them, and why an autoencoder is not better: docs/deviations.md.
"""

from fv_jax.config.training import CodebookExperiment

GAMES = (
    "assault", "asterix", "bank_heist", "boxing", "breakout", "enduro", "fishing_derby", "freeway",
    "frostbite", "ms_pacman", "pong", "qbert", "riverraid", "seaquest", "skiing", "space_invaders",
)  # fmt: skip
UNSEEN = (
    "alien", "bowling", "carnival", "demon_attack", "ice_hockey", "kangaroo", "tennis",
    "up_n_down",
)  # fmt: skip
OTHERS = (
    "adventure", "air_raid", "amidar", "asteroids", "atlantis", "atlantis2", "backgammon",
    "basic_math", "battle_zone", "beam_rider", "berzerk", "blackjack", "casino", "centipede",
    "chopper_command", "crazy_climber", "crossbow", "darkchambers", "defender", "donkey_kong",
    "double_dunk", "earthworld", "elevator_action", "entombed", "et", "flag_capture", "frogger",
    "galaxian", "gopher", "gravitar", "hangman", "haunted_house", "hero", "human_cannonball",
    "jamesbond", "journey_escape", "kaboom", "keystone_kapers", "king_kong", "klax", "koolaid",
    "krull", "kung_fu_master", "laser_gates", "lost_luggage", "mario_bros", "miniature_golf",
    "montezuma_revenge", "mr_do", "name_this_game", "othello", "pacman", "phoenix", "pitfall",
    "pitfall2", "pooyan", "private_eye", "road_runner", "robotank", "sir_lancelot", "solaris",
    "space_war", "star_gunner", "superman", "surround", "tetris", "tic_tac_toe_3d", "time_pilot",
    "trondead", "turmoil", "tutankham", "venture", "video_checkers", "video_chess", "video_cube",
    "video_pinball", "wizard_of_wor", "word_zapper", "yars_revenge", "zaxxon",
)  # fmt: skip


def get_config() -> CodebookExperiment:
    """The shipped tokenizer's settings."""
    return CodebookExperiment(
        name="arcade_tokenizer",
        data=f"arcade:games={'+'.join(GAMES)},split=train,count=384",
        valid=f"arcade:games={'+'.join(GAMES)},split=valid,count=64",
        wide=f"arcade:games={'+'.join(OTHERS)},split=train,count=400",
    )
