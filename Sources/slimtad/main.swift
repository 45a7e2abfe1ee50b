print("slimtad")
