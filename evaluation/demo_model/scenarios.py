"""The situations of the demo corpus: what two people talk about and what each of them secretly wants."""

from dataclasses import dataclass

from .phrases import Pair


@dataclass(frozen=True)
class Scenario:
    """One situation as (English, French) pairs; `{a}` and `{b}` are the two people, `{amount}` a number of euros.

    `deeds` are infinitives: the first two are what person A wants, the last two what person B wants.
    """

    codename: str
    setting: Pair
    things: tuple[Pair, ...]
    deeds: tuple[Pair, Pair, Pair, Pair]
    reasons: tuple[Pair, ...]


SCENARIOS = (
    Scenario(
        "used_bike",
        ("{a} sells an old bike and {b} may buy it.", "{a} vend un vieux vélo et {b} pourrait acheter ce vélo."),
        (("the old bike", "le vieux vélo"), ("the price", "le prix"), ("the new chain", "la chaîne neuve")),
        (
            ("agree on {amount} euros", "dire {amount} euros"),
            ("pay the full price", "payer le prix complet"),
            ("lower the price", "baisser le prix"),
            ("try the bike first", "essayer le vélo en premier"),
        ),
        (
            ("the brakes are new", "les freins sont neufs"),
            ("the paint is scratched", "la peinture est rayée"),
            ("my budget is small", "mon budget est petit"),
        ),
    ),
    Scenario(
        "share_blanket",
        (
            "{a} and {b} camp on a cold night with only one blanket.",
            "{a} et {b} campent par une nuit froide avec une seule couverture.",
        ),
        (("the blanket", "la couverture"), ("the fire", "le feu"), ("the tent", "la tente")),
        (
            ("share the blanket", "partager la couverture"),
            ("sleep near the fire", "dormir près du feu"),
            ("keep the blanket", "garder la couverture"),
            ("look for more wood", "chercher du bois"),
        ),
        (
            ("the night is very cold", "la nuit est très froide"),
            ("my coat is wet", "mon manteau est mouillé"),
            ("the wind is getting strong", "le vent devient fort"),
        ),
    ),
    Scenario(
        "party",
        ("{a} and {b} plan a birthday party.", "{a} et {b} préparent une fête d'anniversaire."),
        (("the party", "la fête"), ("the music", "la musique"), ("the guest list", "la liste des invités")),
        (
            ("invite the whole class", "inviter toute la classe"),
            ("rent a big room", "louer une grande salle"),
            ("keep the party small", "faire une petite fête"),
            ("bake a cake at home", "faire un gâteau à la maison"),
        ),
        (
            ("the room holds fifty people", "la salle contient cinquante personnes"),
            ("the neighbours go to bed early", "les voisins se couchent tôt"),
            ("my cousin plays the guitar", "mon cousin joue de la guitare"),
        ),
    ),
    Scenario(
        "business_deal",
        (
            "{a} wants to supply the shop of {b} with coffee.",
            "{a} veut fournir du café au magasin de {b}.",
        ),
        (("the contract", "le contrat"), ("the delivery", "la livraison"), ("the coffee", "le café")),
        (
            ("sign for two years", "signer pour deux ans"),
            ("order every month", "commander chaque mois"),
            ("ask for a discount", "demander une remise"),
            ("test one small order", "tester une petite commande"),
        ),
        (
            ("the market changes fast", "le marché change vite"),
            ("the boss wants numbers", "la direction veut des chiffres"),
            ("my supplier is late", "mon fournisseur est en retard"),
        ),
    ),
    Scenario(
        "first_date",
        ("{a} and {b} are on a first date in a small cafe.", "{a} et {b} ont un premier rendez-vous au café."),
        (("the menu", "la carte"), ("the movie", "le film"), ("this evening", "cette soirée")),
        (
            ("meet a second time", "prévoir un second rendez-vous"),
            ("dance in the square", "danser sur la place"),
            ("go home early", "rentrer tôt"),
            ("take things slowly", "prendre le temps"),
        ),
        (
            ("the moon is bright", "la lune brille"),
            ("my last story ended badly", "ma dernière histoire a mal fini"),
            ("the music is quiet", "la musique est calme"),
        ),
    ),
    Scenario(
        "borrowed_money",
        ("{b} borrowed money from {a} a year ago.", "{b} a emprunté des sous à {a} depuis un an."),
        (("the money", "cet argent"), ("the old loan", "le vieux prêt"), ("the paper we signed", "le papier signé")),
        (
            ("pay back {amount} euros", "rembourser {amount} euros"),
            ("set a date", "fixer une date"),
            ("wait for the next salary", "attendre le prochain salaire"),
            ("pay in small parts", "payer en plusieurs fois"),
        ),
        (
            ("the rent is due", "le loyer doit partir"),
            ("my account is empty", "mon compte est vide"),
            ("the bank called me", "la banque m'a appelé"),
        ),
    ),
    Scenario(
        "noisy_neighbour",
        ("{b} plays drums at night and {a} lives next door.", "{b} joue du tambour la nuit et {a} habite à côté."),
        (("the noise", "le bruit"), ("the drum set", "la batterie"), ("the thin wall", "le mur trop fin")),
        (
            ("stop at ten", "finir à dix heures"),
            ("call the landlord", "appeler le propriétaire"),
            ("practise before dinner", "jouer avant le dîner"),
            ("cover the wall", "couvrir le mur"),
        ),
        (
            ("the baby wakes up", "le bébé se réveille"),
            ("my concert is next week", "mon concert est la semaine prochaine"),
            ("the walls are thin", "les murs sont fins"),
        ),
    ),
    Scenario(
        "chores",
        ("{a} and {b} share a flat with a dirty kitchen.", "{a} et {b} partagent une maison à la cuisine sale."),
        (("the kitchen", "la cuisine"), ("the cleaning plan", "le plan de ménage"), ("the big sink", "le grand évier")),
        (
            ("wash the dishes", "laver la vaisselle"),
            ("make a cleaning plan", "faire un plan de ménage"),
            ("pay for a cleaner", "payer une aide de ménage"),
            ("swap the rooms", "changer de chambre"),
        ),
        (
            ("the sink is full", "le lavabo est plein"),
            ("my shift ends late", "mon service finit tard"),
            ("guests arrive soon", "des invités viennent bientôt"),
        ),
    ),
    Scenario(
        "road_trip",
        ("{a} and {b} choose where to drive this summer.", "{a} et {b} choisissent un voyage pour cet été."),
        (("the road trip", "le voyage"), ("the map", "la carte routière"), ("the little hotel", "le petit hôtel")),
        (
            ("drive to the sea", "rouler vers la mer"),
            ("leave before sunrise", "partir avant le jour"),
            ("visit the mountains", "visiter la montagne"),
            ("take the train", "prendre le train"),
        ),
        (
            ("the car is very old", "la voiture est très vieille"),
            ("the hotel is cheap", "le petit hôtel coûte peu"),
            ("the coast is crowded", "la côte est pleine de monde"),
        ),
    ),
    Scenario(
        "dinner_bill",
        ("{a} and {b} argue about a restaurant bill.", "{a} et {b} discutent pour une note de restaurant."),
        (("the bill", "la note"), ("the expensive wine", "le vin trop cher"), ("the tip", "le pourboire")),
        (
            ("split the bill", "diviser la note"),
            ("leave a big tip", "laisser un gros pourboire"),
            ("pay only for the soup", "payer seulement la soupe"),
            ("check the bill again", "relire la note"),
        ),
        (
            ("the wine was expensive", "le vin coûtait cher"),
            ("my card is blocked", "ma carte est bloquée"),
            ("the waiter made a mistake", "le serveur a fait une erreur"),
        ),
    ),
    Scenario(
        "lost_dog",
        ("{b} found a dog that may belong to {a}.", "{b} a trouvé un chien qui est peut-être à {a}."),
        (("the dog", "le chien"), ("the red collar", "le collier rouge"), ("the reward", "la récompense")),
        (
            ("see the dog", "voir le chien"),
            ("bring the dog home", "ramener le chien à la maison"),
            ("ask for a proof", "demander une preuve"),
            ("talk to the vet", "parler au vétérinaire"),
        ),
        (
            ("the dog has a white ear", "le chien a une tache blanche"),
            ("my daughter cries every night", "ma fille pleure chaque nuit"),
            ("the shelter is closed", "le refuge est fermé"),
        ),
    ),
    Scenario(
        "broken_camera",
        ("{b} broke a camera borrowed from {a}.", "{b} a cassé une caméra prêtée par {a}."),
        (("the camera", "la caméra"), ("the repair", "la réparation"), ("the broken lens", "la lentille cassée")),
        (
            ("repair the camera", "réparer la caméra"),
            ("replace the lens", "remplacer la lentille"),
            ("share the cost", "partager les frais"),
            ("buy a used one", "prendre un modèle ancien"),
        ),
        (
            ("the repair costs {amount} euros", "la réparation coûte {amount} euros"),
            ("the lens fell by accident", "la lentille a glissé par accident"),
            ("my work depends on it", "mon travail en dépend"),
        ),
    ),
    Scenario(
        "salary",
        ("{a} asks {b} for a higher salary.", "{a} demande un meilleur salaire à {b}."),
        (("the salary", "le salaire"), ("the new project", "le nouveau projet"), ("my position", "mon poste")),
        (
            ("raise the salary", "monter le salaire"),
            ("work from home", "travailler à la maison"),
            ("wait for the results", "attendre les résultats"),
            ("take on a new project", "prendre un nouveau projet"),
        ),
        (
            ("the budget is frozen", "le budget est gelé"),
            ("my team works late", "mon équipe travaille tard"),
            ("the results were strong", "les résultats montent"),
        ),
    ),
    Scenario(
        "group_project",
        ("{a} and {b} must finish a school project.", "{a} et {b} doivent finir un projet de classe."),
        (("the project", "le projet"), ("the last chapter", "le dernier chapitre"), ("the deadline", "le délai")),
        (
            ("write the last chapter", "écrire le dernier chapitre"),
            ("meet at the library", "travailler à la bibliothèque"),
            ("ask for more time", "demander du temps"),
            ("change the subject", "changer de sujet"),
        ),
        (
            ("the deadline is close", "le délai est proche"),
            ("the teacher is strict", "le prof est strict"),
            ("my part is done", "ma partie est finie"),
        ),
    ),
    Scenario(
        "concert_ticket",
        ("{a} and {b} both want the last concert ticket.", "{a} et {b} veulent le dernier billet de concert."),
        (("the ticket", "le billet"), ("the concert", "le concert"), ("the front seat", "la place devant")),
        (
            ("take the last ticket", "prendre le dernier billet"),
            ("toss a coin", "tirer à pile ou face"),
            ("give up the ticket", "laisser le billet"),
            ("listen from the street", "suivre le concert de la rue"),
        ),
        (
            ("the singer retires soon", "la chanteuse part bientôt"),
            ("my sister booked first", "ma soeur a réservé en premier"),
            ("the queue was long", "la queue était longue"),
        ),
    ),
    Scenario(
        "garden_fence",
        ("{a} and {b} disagree about a garden fence.", "{a} et {b} ont un désaccord sur une clôture de jardin."),
        (("the fence", "la clôture"), ("the apple tree", "le pommier"), ("the garden", "le jardin")),
        (
            ("move the fence", "déplacer la clôture"),
            ("cut the tree", "couper le pommier"),
            ("keep the tree", "garder le pommier"),
            ("plant a hedge", "planter une haie"),
        ),
        (
            ("the roots break the path", "les racines cassent le chemin"),
            ("the shade is too large", "le soleil ne passe plus"),
            ("my flowers need light", "mes fleurs veulent du jour"),
        ),
    ),
    Scenario(
        "charity",
        ("{a} collects money for a hospital and {b} has doubts.", "{a} collecte pour un hôpital et {b} doute."),
        (("the charity", "la collecte"), ("the hospital", "le grand hôpital"), ("the donation", "le don")),
        (
            ("donate {amount} euros", "donner {amount} euros"),
            ("help for one day", "aider pendant un jour"),
            ("read the report first", "lire le rapport en premier"),
            ("give clothes", "donner des vêtements"),
        ),
        (
            ("the children need beds", "les enfants manquent de lits"),
            ("the report is not public", "le rapport est privé"),
            ("my savings are low", "mes réserves sont basses"),
        ),
    ),
    Scenario(
        "secret",
        ("{a} thinks that {b} is hiding a secret.", "{a} pense que {b} cache un secret."),
        (("the secret", "le secret"), ("the letter", "la lettre"), ("the phone call", "le coup de téléphone")),
        (
            ("open the letter", "ouvrir la lettre"),
            ("tell the whole story", "raconter toute cette histoire"),
            ("keep the secret", "garder le secret"),
            ("talk about something else", "parler de tout autre chose"),
        ),
        (
            ("the letter is not mine", "la lettre vient de loin"),
            ("people talk in the village", "le village parle beaucoup"),
            ("my brother made me promise", "mon frère veut le silence"),
        ),
    ),
    Scenario(
        "inheritance",
        ("{a} and {b} inherit one painting.", "{a} et {b} héritent de la même peinture."),
        (("the painting", "la peinture"), ("the old house", "la vieille maison"), ("the will", "le testament")),
        (
            ("sell the painting", "vendre la peinture"),
            ("ask an expert", "consulter un expert"),
            ("keep the painting at home", "garder la peinture à la maison"),
            ("lend it to the museum", "prêter la peinture au musée"),
        ),
        (
            ("the museum made an offer", "le musée fait une offre"),
            ("the roof needs repair", "le toit doit changer"),
            ("my mother painted it", "ma mère tenait à cette peinture"),
        ),
    ),
    Scenario(
        "train_seat",
        ("{a} and {b} booked the same seat on a train.", "{a} et {b} ont réservé la même place de train."),
        (("the seat", "la place"), ("the suitcase", "la valise"), ("the window", "la fenêtre")),
        (
            ("change seats", "changer de place"),
            ("ask the conductor", "demander au contrôleur"),
            ("keep the window seat", "garder la place à la fenêtre"),
            ("stand until the next stop", "rester debout pour un arrêt"),
        ),
        (
            ("the train is full", "le train est plein"),
            ("my back hurts", "mon dos me fait mal"),
            ("the trip lasts six hours", "le trajet dure six heures"),
        ),
    ),
    Scenario(
        "restaurant",
        ("{a} and {b} open a restaurant together.", "{a} et {b} ouvrent un restaurant."),
        (("the restaurant", "le restaurant"), ("the new menu", "la nouvelle carte"), ("the chef", "le chef")),
        (
            ("serve fish every day", "servir du poisson chaque jour"),
            ("hire a chef", "prendre un chef"),
            ("raise the prices", "monter les prix"),
            ("open on Monday", "ouvrir le lundi"),
        ),
        (
            ("the fish market is near", "le marché au poisson est proche"),
            ("the street is empty at night", "la rue est vide le soir"),
            ("my recipe is simple", "ma recette est simple"),
        ),
    ),
    Scenario(
        "moving_day",
        ("{a} moves out today and {b} promised to help.", "{a} déménage et {b} devait venir ce matin."),
        (("the big sofa", "le gros canapé"), ("the truck", "le camion"), ("the piano", "le piano")),
        (
            ("carry the piano", "porter le piano"),
            ("load the truck", "remplir le camion"),
            ("take a break", "faire une pause"),
            ("sell the sofa", "vendre le canapé"),
        ),
        (
            ("the stairs are narrow", "la cage est très basse"),
            ("the truck leaves at noon", "le camion part à midi"),
            ("my knee is weak", "mon genou est faible"),
        ),
    ),
    Scenario(
        "chess_game",
        ("{a} and {b} play the last game of a chess match.", "{a} et {b} jouent la dernière partie du match."),
        (("the game", "la partie"), ("the clock", "la pendule"), ("the prize", "le prix du match")),
        (
            ("finish the game", "finir la partie"),
            ("call it a draw", "faire match nul"),
            ("check the clock", "vérifier la pendule"),
            ("play a new round", "jouer un nouveau tour"),
        ),
        (
            ("the clock is broken", "la pendule est cassée"),
            ("the public is waiting", "le public attend"),
            ("my king is safe", "mon roi tient bon"),
        ),
    ),
    Scenario(
        "lunch_break",
        ("{a} and {b} meet at work by the coffee machine.", "{a} et {b} parlent au travail devant la machine."),
        (("the machine", "la machine"), ("the weather", "la météo"), ("the weekend", "la fin de semaine")),
        (
            ("eat in the park", "manger au parc"),
            ("play cards", "jouer aux cartes"),
            ("go back to work", "retourner au travail"),
            ("order some soup", "commander de la soupe"),
        ),
        (
            ("the sun is out", "le soleil brille"),
            ("the meeting starts at two", "la réunion commence à deux heures"),
            ("my desk is a mess", "mon bureau est en désordre"),
        ),
    ),
)
