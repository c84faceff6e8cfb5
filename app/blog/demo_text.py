"""The words of the demo data: titles and paragraphs put together by a random generator that is given."""

from random import Random

SUBJECTS = [
    "the tide mill", "an old lugger", "the harbour crane", "a clinker dinghy", "the ferry landing",
    "a sail loft", "the lighthouse stair", "a rope walk", "the oyster beds", "a pilot cutter",
    "the dry dock", "a tar kettle", "the net store", "a steam capstan", "the signal mast",
    "a fishing smack", "the breakwater", "a copper lantern", "the boathouse roof", "a pair of oars",
]  # fmt: skip
TITLES = [
    "What {subject} taught us", "A winter with {subject}", "In praise of {subject}",
    "How to mend {subject}", "The long way round {subject}", "Twelve mornings at {subject}",
    "Notes on {subject}", "Saving {subject}", "{subject}, measured twice", "The people behind {subject}",
    "A short history of {subject}", "Before the storm: {subject}", "Learning from {subject}",
    "Why {subject} still matters",
]  # fmt: skip
FIRST_NAMES = [
    "Ada", "Bram", "Carys", "Dara", "Edda", "Finn", "Greta", "Hamish", "Ines", "Jory", "Kaia", "Lowen",
    "Maren", "Niall", "Oona", "Piers", "Runa", "Senna", "Tamsin", "Wilf",
]  # fmt: skip
LAST_NAMES = [
    "Ashcombe", "Brandt", "Carne", "Dahl", "Eskdale", "Falk", "Gale", "Harrow", "Ivers", "Jansen", "Keel",
    "Lindqvist", "Moor", "Nance", "Orchard", "Penrose", "Quill", "Rook", "Strand", "Thorne",
]  # fmt: skip
TOPICS = [
    "Boats", "Harbours", "Weather", "Tools", "Timber", "Rope", "Sails", "Rivers", "Islands", "Repair",
    "Charts", "Engines", "Fishing", "Birds", "Food", "History", "Light", "Winter", "Craft", "Markets",
    "Paint", "Knots", "Ferries", "Locks", "Music", "Letters", "Stone", "Salt", "Maps", "Crews",
]  # fmt: skip
CATEGORIES = {
    "Workshop": "Repairs, from the first look to the last coat.",
    "Voyages": "Where a boat took us, and what we found there.",
    "People": "Those who build, mend and steer.",
    "Nature": "Water, weather, birds and what grows at the edge.",
    "History": "How it came to be as it is.",
    "Opinion": "Arguments, mostly friendly.",
}
GOODS = [
    "Marlinspike", "Sailmaker's palm", "Oak bucket", "Storm lantern", "Caulking mallet", "Deck brush",
    "Brass cleat", "Rigging knife", "Tide clock", "Canvas bag", "Rope mat", "Bronze bell", "Chart weight",
    "Oilskin apron", "Boathook", "Bosun's chair", "Wooden fid", "Copper kettle", "Signal flag", "Leather log book",
]  # fmt: skip
GOODS_SUMMARIES = [
    "Made by hand in a shed with a view of the water.",
    "Outlives its owner, and says so on the label.",
    "Plain, heavy, and exactly right.",
    "The kind that our grandparents had, because it was theirs we copied.",
    "Comes with a drawing, so that you can mend it.",
]
SUMMARIES = [
    "It took a season, a borrowed winch and more patience than we had planned for.",
    "Everyone said it was past saving. Three people and a pot of glue disagreed.",
    "A slow look at a thing that most of us walk past every day.",
    "What holds it up, what wears it down, and who comes at dawn to look.",
    "We measured first, and were glad that we did.",
    "The easy part was the wood. The hard part was agreeing when to stop.",
    "Some jobs are best begun at low water and before breakfast.",
    "Old drawings, new fastenings, and a question nobody had asked before.",
]
OPENINGS = [
    "The first thing you notice about {subject} is how quiet it is.",
    "Nobody we asked could say who had last worked on {subject}.",
    "By the time the fog lifted we had been looking at {subject} for an hour.",
    "There is a photograph of {subject} in the harbour office, and it is wrong in every detail.",
    "We came for the view, and stayed for {subject}.",
]
SENTENCES = [
    "The planks were numbered in chalk, which the rain had read before us.",
    "You learn to listen for the moment when a joint stops complaining.",
    "A good tool is one that you stop noticing after the first hour.",
    "The tide gave us four hours and then, without apology, took them back.",
    "Every repair is an argument with somebody who worked here long ago.",
    "We wrote the measurements down twice, because once had not been enough.",
    "It is slower this way, but nothing has to be done again.",
    "The paint came off in layers, green under white under a blue that nobody remembered.",
    "Somebody had left a pencil behind the rib, sharpened and ready.",
    "There were easier ways to do it, and we had tried most of them.",
    "In the evening the shed smelled of cedar, tea and warm rope.",
    "The forecast was for nothing in particular, which is the best kind.",
    "What looked like damage turned out to be a decision.",
    "Cold hands make for short sentences, so the notes from that week are brief.",
    "The old hands said little and were right about most of it.",
    "We kept the offcuts, and by spring had used all of them.",
    "From the water it looks finished; from the land it never will.",
    "It floats a little lower than it did, and so do we.",
    "On the third day the kettle gave out, and the work stopped until it was mended.",
    "A gull watched all of it from the ridge and was not impressed.",
    "The bolts were bronze, the nuts were not, and therein lay the story.",
    "You can read the weather of a hundred years in the grain.",
    "What cannot be bent must be steamed, and what cannot be steamed must be let in.",
    "The bill came to less than the coffee.",
    "Half of the drawings were missing, so we drew them again from the wood.",
    "Visitors asked when it would be done, and the answer was always the same.",
    "It was the smallest clamp that held the whole thing together.",
    "Nothing was thrown away that could still be argued about.",
]
REMARKS = [
    "Thank you for this. My grandfather kept one just like it.",
    "I walked past it yesterday and saw it with new eyes.",
    "Is there a drawing of the joint somewhere? I would like to try it.",
    "The part about the tide made me laugh out loud.",
    "We had the same trouble two winters ago. More glue, fewer clamps.",
    "Beautifully told. Please write about the sail loft next.",
    "I do not agree about the paint, but I enjoyed being wrong.",
    "Measured twice, read twice.",
    "Could you say what timber you used for the knees?",
    "This is why I keep coming back.",
]


def title_and_body(random: Random) -> tuple[str, str]:
    """Return a title and a text of several paragraphs on one subject, in which no sentence comes twice."""
    subject = random.choice(SUBJECTS)
    title = random.choice(TITLES).format(subject=subject)
    sentences = [random.choice(OPENINGS).format(subject=subject), *random.sample(SENTENCES, len(SENTENCES))]
    paragraphs = []
    while len(sentences) > 5:
        length = random.randint(3, 6)
        paragraphs.append(" ".join(sentences[:length]))
        sentences = sentences[length:]
    return title[0].upper() + title[1:], "\n\n".join(paragraphs)


def remark(random: Random) -> str:
    """Return a comment."""
    return " ".join(random.sample(REMARKS, random.randint(1, 2)))


def description(random: Random) -> str:
    """Return a text of two paragraphs about a product."""
    sentences = random.sample(SENTENCES, 7)
    return f"{' '.join(sentences[:4])}\n\n{' '.join(sentences[4:])}"
