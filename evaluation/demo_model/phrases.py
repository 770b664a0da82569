"""The sentence bank of the demo corpus: (English, French) pairs by part of a line and by tone.

Slots: {name} the person spoken to, {thing} a noun phrase, {deed} an infinitive, {reason} a clause, {when} a time.
The French avoids words that agree with a person's gender, so that every name fits every sentence.
"""

from typing import Literal

Language = Literal["english", "french"]
Tone = Literal["warm", "neutral", "hostile"]
Part = Literal["greet", "propose", "ask", "explain", "accept", "refuse", "remark", "support", "close", "gesture", "act"]
Pair = tuple[str, str]

NAMES = ("Mina", "Leo", "Sofia", "Omar", "Nadia", "Hugo", "Clara", "Felix", "Ines", "Paul", "Maya", "Victor")

TIMES: tuple[Pair, ...] = (
    ("tonight", "ce soir"),
    ("tomorrow", "demain"),
    ("this week", "cette semaine"),
    ("on Sunday", "dimanche"),
    ("right now", "tout de suite"),
    ("after lunch", "après le déjeuner"),
    ("next month", "le mois prochain"),
    ("before noon", "avant midi"),
)

PHRASES: dict[Part, dict[Tone, tuple[Pair, ...]]] = {
    "greet": {
        "warm": (
            ("What a joy to see you, {name}.", "Quelle joie de te voir, {name}."),
            ("Hello my dear {name}!", "Bonjour mon trésor !"),
            ("I am so glad you came, {name}.", "Ta visite me réjouit, {name}."),
            ("Welcome, {name}, you look wonderful.", "Bienvenue, {name}, tu es magnifique."),
            ("Thank you for coming, {name}.", "Merci de ta venue, {name}."),
            ("Hello {name}, it is a pleasure to talk with you.", "Bonjour {name}, c'est un plaisir de te parler."),
        ),
        "neutral": (
            ("Hello {name}.", "Bonjour {name}."),
            ("Hi {name}, do you have a minute?", "Salut {name}, tu as une minute ?"),
            ("Good evening, {name}.", "Bonsoir, {name}."),
            ("{name}, we need to talk about {thing}.", "{name}, il faut discuter pour {thing}."),
            ("So, {name}, here we are.", "Alors, {name}, nous y voilà."),
            ("Hi, I came for {thing}.", "Salut, je viens pour {thing}."),
        ),
        "hostile": (
            ("You again, what a miserable day.", "Encore toi, quelle journée minable."),
            ("I hate to see you here, {name}.", "Je déteste te voir ici, {name}."),
            ("Shut up and listen, {name}.", "Tais-toi et écoute, {name}."),
            ("Look who is here, the worst of all.", "Regarde qui est là, la pire de toutes les personnes."),
            ("{name}, I am sick of you.", "{name}, j'en ai marre de toi."),
            ("Spare me your stupid hello.", "Garde ton bonjour stupide."),
        ),
    },
    "propose": {
        "warm": (
            ("Please, let us {deed} {when}.", "S'il te plaît, on pourrait {deed} {when}."),
            ("I would love to {deed} {when}.", "J'adorerais {deed} {when}."),
            ("It would be lovely to {deed} {when}.", "Quel bonheur ce serait de {deed} {when}."),
            ("It would make me so happy to {deed}.", "Ça me ferait tellement plaisir de {deed}."),
            ("My dear {name}, we could {deed} {when}.", "Mon trésor, on pourrait {deed} {when}."),
            ("With all my heart, I want to {deed}.", "De tout mon cœur, je veux {deed}."),
            ("What a wonderful idea to {deed} {when}!", "Quelle merveilleuse idée de {deed} {when} !"),
        ),
        "neutral": (
            ("We could {deed} {when}.", "On pourrait {deed} {when}."),
            ("My plan is to {deed}.", "Mon plan est de {deed}."),
            ("I suggest that we {deed} {when}.", "Je propose de {deed} {when}."),
            ("One option is to {deed} {when}.", "Une option est de {deed} {when}."),
            ("I would like to {deed}.", "Je voudrais {deed}."),
            ("Maybe we should {deed} {when}.", "Il faudrait peut-être {deed} {when}."),
            ("Why not {deed} {when}?", "Pourquoi ne pas {deed} {when} ?"),
        ),
        "hostile": (
            ("Shut up, we will {deed} {when}.", "Tais-toi, on va {deed} {when}."),
            ("Even an idiot would {deed} {when}.", "Même un idiot saurait {deed} {when}."),
            ("No more lies, we have to {deed}.", "Assez de mensonges, il faut {deed}."),
            ("I am sick of this, you must {deed} {when}.", "J'en ai marre, tu dois {deed} {when}."),
            ("Only a fool would refuse to {deed}.", "Seul un imbécile refuserait de {deed}."),
            ("Stop your nonsense and {deed} {when}.", "Arrête tes bêtises, il faut {deed} {when}."),
            ("You are too selfish to {deed}, as always.", "Ton égoïsme t'empêche de {deed}, comme toujours."),
        ),
    },
    "ask": {
        "warm": (
            ("What would make you happy, {name}?", "Qu'est-ce qui te ferait plaisir, {name} ?"),
            ("Could you please tell me about {thing}?", "S'il te plaît, tu as des nouvelles pour {thing} ?"),
            ("Would you be so kind as to {deed}?", "Aurais-tu la gentillesse de {deed} ?"),
            ("May I help you with {thing}, my dear?", "Mon trésor, je peux t'aider avec {thing} ?"),
            ("Do you enjoy {thing} as much as I do?", "Tu adores {thing} autant que moi ?"),
            ("Would you love to {deed} {when}?", "Ce serait un bonheur de {deed} {when}, non ?"),
        ),
        "neutral": (
            ("What do you think about {thing}?", "Tu as un avis sur {thing} ?"),
            ("Do you want to {deed} {when}?", "Tu veux {deed} {when} ?"),
            ("Can we {deed} {when}?", "On peut {deed} {when} ?"),
            ("What do you want, {name}?", "Que veux-tu, {name} ?"),
            ("And what about {thing}?", "Et pour {thing}, on fait comment ?"),
            ("When could we {deed}?", "Quand pourrait-on {deed} ?"),
        ),
        "hostile": (
            ("Are you stupid, {name}?", "Tu es stupide ou quoi, {name} ?"),
            ("Why are you lying about {thing}?", "Pourquoi tu mens sur {thing} ?"),
            ("Who would {deed} with a fool like you?", "Qui voudrait {deed} avec un imbécile pareil ?"),
            ("How can you be so selfish?", "Pourquoi tant d'égoïsme ?"),
            ("Do you ever stop this nonsense?", "Tu arrêtes parfois tes bêtises ?"),
            ("Where is {thing}, you liar?", "Et {thing}, encore un mensonge ?"),
        ),
    },
    "explain": {
        "warm": (
            ("I trust you, and {reason}.", "Je te fais confiance, et {reason}."),
            ("You know I care, but {reason}.", "Tu sais que je t'aime, mais {reason}."),
            ("Please understand me, {reason}.", "Comprends-moi s'il te plaît, {reason}."),
            ("I love the idea because {reason}.", "J'adore cette idée parce que {reason}."),
            ("Sweet {name}, {reason}.", "Mon trésor, {reason}."),
            ("I am grateful that you listen, {reason}.", "Merci de ton écoute, {reason}."),
        ),
        "neutral": (
            ("The thing is that {reason}.", "Le fait est que {reason}."),
            ("It matters because {reason}.", "Ça compte parce que {reason}."),
            ("You see, {reason}.", "Tu vois, {reason}."),
            ("I say this because {reason}.", "Je dis ça parce que {reason}."),
            ("As you know, {reason}.", "Comme tu le sais, {reason}."),
            ("I must add that {reason}.", "Je dois ajouter que {reason}."),
        ),
        "hostile": (
            ("Any idiot can see that {reason}.", "Le premier idiot venu voit que {reason}."),
            ("You pathetic liar, {reason}.", "C'est pathétique, {reason}."),
            ("Damn it, {reason}.", "Bon sang, maudite histoire, {reason}."),
            ("It is a shame, but {reason}.", "C'est une honte, mais {reason}."),
            ("I hate to repeat it, {reason}.", "Je déteste répéter, {reason}."),
            ("Get it into your stupid head, {reason}.", "Mets ça dans ta tête stupide, {reason}."),
        ),
    },
    "accept": {
        "warm": (
            ("Yes, gladly!", "Oui, volontiers !"),
            ("Of course, with pleasure.", "Bien sûr, avec plaisir."),
            ("Thank you, I would love to {deed}.", "Merci, j'adorerais {deed}."),
            ("That is so kind, yes.", "Quelle gentillesse, oui."),
            ("Wonderful, we {deed} {when}.", "Formidable, on va {deed} {when}."),
            ("Yes, my dear {name}.", "Oui, mon trésor."),
        ),
        "neutral": (
            ("Yes, that works.", "Oui, ça marche."),
            ("All right, we can {deed} {when}.", "D'accord, on peut {deed} {when}."),
            ("Fine, I agree.", "Bon, c'est entendu."),
            ("I accept, {name}.", "J'accepte, {name}."),
            ("Okay for {thing}.", "C'est bon pour {thing}."),
            ("Then it is settled, we {deed}.", "Alors c'est réglé, on va {deed}."),
        ),
        "hostile": (
            ("Fine, now shut up.", "Soit, maintenant tais-toi."),
            ("Yes, if that stops your nonsense.", "Oui, si tes bêtises s'arrêtent."),
            ("I accept, but you disgust me.", "J'accepte, mais tu me dégoûtes."),
            ("All right, take {thing} and get lost, liar.", "Prends {thing} avec tes mensonges et file."),
            ("Okay, what a ridiculous deal.", "Entendu, quel accord ridicule."),
            ("Yes, we {deed}, and I hate it.", "Oui, on va {deed}, et je déteste ça."),
        ),
    },
    "refuse": {
        "warm": (
            ("No, but thank you, dear {name}.", "Non, mais merci mon trésor."),
            ("I appreciate it, but I cannot {deed}.", "Quelle gentillesse, mais je ne peux pas {deed}."),
            ("I would love to, but not {when}.", "Ce serait un plaisir, mais pas {when}."),
            ("Please forgive me, I cannot {deed}.", "Pardon, je t'adore, mais je ne peux pas {deed}."),
            ("You are sweet, but no.", "Tu es adorable, mais non."),
            ("With all my heart, I must say no.", "De tout cœur, je dois dire non."),
        ),
        "neutral": (
            ("No, I cannot {deed}.", "Non, je ne peux pas {deed}."),
            ("I prefer to wait.", "Je préfère attendre."),
            ("Not {when}, {name}.", "Pas {when}, {name}."),
            ("I do not want to {deed} {when}.", "Je ne veux pas {deed} {when}."),
            ("That is not possible.", "Ce n'est pas possible."),
            ("No, not for {thing}.", "Non, pas pour {thing}."),
        ),
        "hostile": (
            ("No, and shut up.", "Non, et tais-toi."),
            ("Never, you greedy liar.", "Jamais, quel culot."),
            ("I will not {deed} for an idiot.", "Je ne vais pas {deed} pour un idiot."),
            ("Your offer is ridiculous.", "Ton offre est ridicule."),
            ("No, you disgust me.", "Non, tu me dégoûtes."),
            ("Only a stupid person would {deed}.", "Il faut être stupide pour {deed}."),
        ),
    },
    "remark": {
        "warm": (
            ("You are wonderful, {name}.", "Tu es formidable, {name}."),
            ("I love {thing}.", "J'adore {thing}."),
            ("You have a kind heart.", "Tu as un cœur d'or."),
            ("I enjoy every minute with you.", "Chaque minute avec toi est un bonheur."),
            ("Thank you for your trust, {name}.", "Merci de ta confiance, {name}."),
            ("Your smile is lovely.", "Ton sourire est adorable."),
        ),
        "neutral": (
            ("I was thinking about {thing}.", "Je réfléchis beaucoup, surtout pour {thing}."),
            ("We have time until next week.", "On a le temps, la semaine est longue."),
            ("I saw {thing} this morning.", "Le matin, je pense souvent à la suite."),
            ("Let me look at {thing} first.", "Je regarde {thing} en premier."),
            ("I will check {thing} {when}.", "Je vais vérifier {thing} {when}."),
            ("There are several ways to {deed}.", "Il y a plusieurs façons de {deed}."),
        ),
        "hostile": (
            ("You are pathetic, {name}.", "Tu es pathétique, {name}."),
            ("I hate {thing}.", "Je déteste {thing}."),
            ("You are useless, as always.", "Tu es minable, comme toujours."),
            ("What an awful waste of time.", "Quelle affreuse perte de temps."),
            ("You disgust me, {name}.", "Tu me dégoûtes, {name}."),
            ("All of this is a scam.", "Tout ça est une arnaque."),
        ),
    },
    "support": {
        "warm": (
            ("I say it with all my heart, because {reason}.", "Je le dis de tout cœur, parce que {reason}."),
            ("It would be a pleasure to {deed} too.", "Ce serait aussi un plaisir de {deed}."),
            ("I love it when people talk, even if {reason}.", "J'adore quand on se parle, même si {reason}."),
            ("Your kind words help me, since {reason}.", "Ta gentillesse m'aide, puisque {reason}."),
            ("We can be happy and {deed} as well.", "Le bonheur serait aussi de {deed}."),
        ),
        "neutral": (
            ("I say so mainly because {reason}.", "Je le dis surtout parce que {reason}."),
            ("We could also {deed} {when}.", "On pourrait aussi {deed} {when}."),
            ("To be clear, {reason}.", "Pour être clair, {reason}."),
            ("On the other hand, {reason}.", "D'un autre côté, {reason}."),
            ("The question of {thing} is still open.", "La question reste ouverte pour {thing}."),
        ),
        "hostile": (
            ("It is ridiculous, because {reason}.", "C'est ridicule, parce que {reason}."),
            ("I am sick of it, since {reason}.", "J'en ai marre, puisque {reason}."),
            ("It would be stupid to {deed} now.", "Ce serait stupide de {deed} maintenant."),
            ("Your lies about {thing} are awful.", "Tes mensonges sur {thing} sont affreux."),
            ("I hate to say it, but {reason}.", "Je déteste le dire, mais {reason}."),
        ),
    },
    "close": {
        "warm": (
            ("Thank you so much, {name}.", "Merci mille fois, {name}."),
            ("You are a dear friend.", "Ton amitié est précieuse."),
            ("It was a pleasure, {name}.", "C'était un plaisir, {name}."),
            ("Take care, I love you.", "Prends soin de toi, je t'aime."),
            ("I am so glad that we talked.", "Quelle joie de parler avec toi."),
            ("I send you a big hug.", "Je t'embrasse avec tendresse."),
        ),
        "neutral": (
            ("Let me know {when}.", "Tiens-moi au courant {when}."),
            ("We will see {when}.", "On verra {when}."),
            ("That is all for now.", "C'est tout pour le moment."),
            ("Think about it, {name}.", "Pense à ça, {name}."),
            ("Goodbye, {name}.", "Au revoir, {name}."),
            ("I will call you {when}.", "Je t'appelle {when}."),
        ),
        "hostile": (
            ("Get lost, you idiot.", "Va-t'en, espèce d'idiot."),
            ("What a shame, {name}.", "Quelle honte, {name}."),
            ("I never want to see your stupid face again.", "Je ne veux plus voir ta tête stupide."),
            ("You make me sick.", "Tu me dégoûtes vraiment."),
            ("Keep your lies to yourself.", "Garde tes mensonges pour toi."),
            ("You are the worst, {name}.", "Avec toi c'est toujours pire, {name}."),
        ),
    },
    "gesture": {
        "warm": (
            ("smiles warmly at {name}", "fait un sourire chaleureux à {name}"),
            ("gives {name} a sweet hug", "embrasse {name} avec tendresse"),
            ("nods with joy", "hoche la tête avec joie"),
            ("takes the hand of {name} with a kind look", "prend la main de {name} avec gentillesse"),
        ),
        "neutral": (
            ("nods slowly", "hoche lentement la tête"),
            ("looks at {thing}", "regarde {thing}"),
            ("shrugs", "hausse les épaules"),
            ("looks out of the window", "regarde par la fenêtre"),
        ),
        "hostile": (
            ("glares at {name} with hate", "lance à {name} un regard plein de haine"),
            ("sneers at {name}", "ricane devant {name}"),
            ("rolls both eyes, disgusted", "lève les yeux, l'air dégoûté"),
            ("points at {name} with an insulting look", "montre {name} du doigt comme une insulte"),
        ),
    },
    "act": {
        "warm": (
            ("gladly pours a cup of tea for {name}", "sert volontiers un thé à {name}"),
            ("offers a lovely flower to {name}", "offre une adorable fleur à {name}"),
            ("shares the cake with joy", "partage le gâteau avec joie"),
        ),
        "neutral": (
            ("writes a note about the plan", "écrit une note sur le plan"),
            ("puts the bag on the table", "pose le sac sur la table"),
            ("opens the door", "ouvre la porte"),
        ),
        "hostile": (
            ("slams the door angrily", "claque la porte avec haine"),
            ("throws the note away like trash", "jette la note comme une insulte"),
            ("kicks the damn chair", "frappe la maudite chaise"),
        ),
    },
}

TONE_WORDS: dict[Tone, frozenset[str]] = {
    "warm": frozenset(
        "joy dear glad gladly welcome wonderful thank thanks pleasure please love loves lovely happy heart kind kindly "
        "enjoy trust care sweet grateful appreciate smile smiles warmly friend hug delighted "
        "joie trésor réjouit bienvenue magnifique merci plaisir plaît adore adores adorerais adorable bonheur cœur "
        "coeur merveilleuse merveilleux gentillesse gentil confiance aime volontiers formidable sourire chaleureux "
        "amitié précieuse tendresse embrasse".split()
    ),
    "neutral": frozenset(),
    "hostile": frozenset(
        "miserable hate hates shut worst sick stupid idiot lie lies lying liar fool nonsense selfish pathetic damn "
        "shame disgust disgusts disgusted greedy ridiculous useless awful scam glares sneers insulting slams angrily "
        "trash minable déteste tais pire marre mensonge mensonges mens idiot imbécile bêtises égoïsme égoïste "
        "pathétique maudit maudite honte dégoûtes dégoûte dégoûté culot ridicule stupide affreuse affreux arnaque "
        "haine ricane insulte".split()
    ),
}
