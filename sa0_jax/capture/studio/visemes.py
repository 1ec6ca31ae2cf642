"""Mouth shapes of speech, as mixtures of ARKit-named directions and jaw angles.

A viseme is what a group of sounds looks like. Values are shares of the full ARKit activation; the
jaw is in radians. They are set by eye on the procedural head.
"""

Shape = dict[str, float]

JAW = 'jaw'

VISEMES: dict[str, Shape] = {
  'rest': {JAW: 0.010},
  # p b m: lips together and pressed.
  'closed': {JAW: 0.030, 'mouthClose': 0.10, 'mouthPress': 0.30, 'mouthRollUpper': 0.12,
             'mouthRollLower': 0.12},
  # f v: lower lip under the upper teeth.
  'lip_teeth': {JAW: 0.050, 'mouthRollLower': 0.45, 'mouthUpperUp': 0.28, 'mouthShrugLower': 0.15},
  # t d s z n l: teeth close to each other, lips apart.
  'teeth': {JAW: 0.055, 'mouthStretch': 0.18, 'mouthUpperUp': 0.22, 'mouthLowerDown': 0.30},
  # sh ch j: rounded, teeth close.
  'rounded_teeth': {JAW: 0.060, 'mouthFunnel': 0.45, 'mouthPucker': 0.20, 'mouthUpperUp': 0.12},
  # k g h: half open.
  'back': {JAW: 0.100, 'mouthLowerDown': 0.18, 'mouthUpperUp': 0.10},
  'ah': {JAW: 0.215, 'mouthLowerDown': 0.22, 'mouthUpperUp': 0.16},
  'eh': {JAW: 0.140, 'mouthStretch': 0.22, 'mouthLowerDown': 0.25, 'mouthUpperUp': 0.18},
  'ee': {JAW: 0.065, 'mouthStretch': 0.35, 'mouthSmile': 0.25, 'mouthLowerDown': 0.28,
         'mouthUpperUp': 0.22},
  'oh': {JAW: 0.150, 'mouthFunnel': 0.55, 'mouthPucker': 0.25},
  'oo': {JAW: 0.065, 'mouthPucker': 0.75, 'mouthFunnel': 0.30},
}  # fmt: skip

# What may follow what: syllables are a consonant and a vowel.
CONSONANTS = ('closed', 'lip_teeth', 'teeth', 'teeth', 'rounded_teeth', 'back')
VOWELS = ('ah', 'eh', 'ee', 'oh', 'oo', 'ah')

# Faces people make without words: held for a second or so.
MOODS: dict[str, Shape] = {
  'neutral': {},
  'smile': {'mouthSmile': 0.55, 'cheekSquint': 0.40, 'eyeSquint': 0.18, 'mouthDimple': 0.15},
  'broad_smile': {JAW: 0.045, 'mouthSmile': 0.80, 'cheekSquint': 0.55, 'eyeSquint': 0.30,
                  'mouthUpperUp': 0.28, 'mouthLowerDown': 0.12},
  'frown': {'browDown': 0.60, 'mouthFrown': 0.35, 'mouthPress': 0.20, 'eyeSquint': 0.12},
  'surprise': {JAW: 0.110, 'browInnerUp': 0.65, 'browOuterUp': 0.60, 'eyeWide': 0.45},
  'doubt': {'browInnerUp': 0.30, 'browOuterUpLeft': 0.55, 'mouthPress': 0.35, 'mouthLeft': 0.25},
  'pout': {'mouthPucker': 0.45, 'mouthShrugLower': 0.35, 'browDown': 0.15},
  'puff': {'cheekPuff': 0.70, 'mouthPress': 0.30},
}  # fmt: skip
