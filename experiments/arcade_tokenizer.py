"""The `arcade` frame tokenizer: 160x160 px to 20x20 ids, a table of patches (not in the paper).

command     fv train arcade_tokenizer   (pip install 'fv-jax[arcade]')
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
